"""django_storage.py MEDIA_ROOT UPLOAD_FOLDER COUNT: prints {name: sha256} of what is to be in MEDIA_ROOT."""
import concurrent.futures
import hashlib
import json
import os
import pathlib
import random
import sys

root, uploads, count = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

import django
from django.conf import settings

settings.configure(MEDIA_ROOT=str(root), MEDIA_URL="/media/", FILE_UPLOAD_TEMP_DIR=uploads, USE_TZ=True)
django.setup()

from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage
from django.core.files.uploadedfile import SimpleUploadedFile, TemporaryUploadedFile
from django.test import RequestFactory
from django.utils import timezone

random.seed(7)
storage = FileSystemStorage()
wanted = {}


def keep(name, body):
    wanted[name] = hashlib.sha256(body).hexdigest()
    assert storage.exists(name) and storage.size(name) == len(body), name
    with storage.open(name) as file:
        assert file.read() == body, name
    return name


def save(name, body):
    return keep(storage.save(name, ContentFile(body)), body)


# A name that is taken gets another one, and the first file stays as it is.
first = save("avatars/2026/me.png", b"first")
second = save("avatars/2026/me.png", b"second, and longer")
assert first == "avatars/2026/me.png" and second != first, (first, second)
assert storage.url(second) == "/media/" + second

# So do names that many threads save at the same time.
bodies = [random.randbytes(random.choice([0, 10, 5000, 70_000])) for _ in range(count)]
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    names = list(pool.map(lambda body: storage.save("race/same.bin", ContentFile(body)), bodies))
assert len(set(names)) == count, names
for name, body in zip(names, bodies):
    keep(name, body)

# Overwriting keeps the name, with longer, shorter and no bytes.
overwriting = FileSystemStorage(allow_overwrite=True)
for body in [b"old" * 1000, b"new", b"", random.randbytes(100_000)]:
    assert overwriting.save("logo.svg", ContentFile(body)) == "logo.svg"
    keep("logo.svg", body)

# A form with a large file: Django spools it to its upload folder, on another
# file system, and moves it to its place.
large = random.randbytes(20 << 20)
form = {"file": SimpleUploadedFile("large.mp4", large), "note": SimpleUploadedFile("note.txt", b"small")}
request = RequestFactory().post("/", form)
spooled = request.FILES["file"]
assert isinstance(spooled, TemporaryUploadedFile)
assert os.stat(spooled.temporary_file_path()).st_dev != os.stat(root).st_dev
keep(storage.save("uploads/large.mp4", spooled), large)
keep(storage.save("uploads/note.txt", request.FILES["note"]), b"small")
for file in request.FILES.values():
    try:
        file.close()
    except FileNotFoundError:
        pass  # moved away

# Folders, dates, removal.
folders, files = storage.listdir("")
assert (sorted(folders), files) == (["avatars", "race", "uploads"], ["logo.svg"]), (folders, files)
assert sorted(storage.listdir("uploads")[1]) == ["large.mp4", "note.txt"]
age = timezone.now() - storage.get_modified_time("uploads/large.mp4")
assert -5 < age.total_seconds() < 600, age
storage.delete(first)
storage.delete(first)
del wanted[first]
assert not storage.exists(first)
assert storage.listdir("avatars/2026") == ([], [os.path.basename(second)])

# Writing through the storage's own open.
(root / "notes").mkdir()
with storage.open("notes/log.txt", "wb") as file:
    file.write(b"one\n")
with storage.open("notes/log.txt", "ab") as file:
    file.write(b"two\n")
keep("notes/log.txt", b"one\ntwo\n")

print(json.dumps(wanted))
