"""What requests cost at S3."""

# US dollars a thousand requests of S3 Standard in us-east-1; deletes are free. Bytes
# between S3 and a machine of the same region are free; out to the internet they cost
# USD_EGRESS_GB up to 10 TB a month.
# Source: aws.amazon.com/s3/pricing, "Requests & data retrievals", "Data transfer";
# as of 2025-11.
AS_OF = "S3 Standard, us-east-1, 2025-11"
PUT_TIER, GET_TIER, FREE = 0.005, 0.0004, 0.0
USD_A_THOUSAND = {
    "PUT": PUT_TIER, "COPY": PUT_TIER, "LIST": PUT_TIER,
    "PART": PUT_TIER, "PART_COPY": PUT_TIER, "MPU_CREATE": PUT_TIER, "COMPLETE": PUT_TIER,
    "GET": GET_TIER, "HEAD": GET_TIER,
    "DELETE": FREE, "DELETE_MANY": FREE,
    # Not known: as much as any.
    "OTHER": PUT_TIER,
}
USD_EGRESS_GB = 0.09


def usd_of_requests(kinds):
    return sum(count * USD_A_THOUSAND[kind] / 1000 for kind, count in kinds.items())


def usd_of_egress(bytes_in):
    return bytes_in / 1e9 * USD_EGRESS_GB
