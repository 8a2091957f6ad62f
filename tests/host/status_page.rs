//! The status page in a real browser.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::metrics::MetricsAt;
use crate::support::proxy::Fault;
use crate::support::{Mount, MountBuilder, sys, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
/// A name that runs, where a page takes it for markup.
const HOSTILE: &str = "<img src=x onerror=\"document.title='owned'\">'&lt;b>.png";

/// The part of the page that is of the mount itself.
const OWN: &str = "document.querySelector('#mount-0')";

/// A mount whose page a browser shows.
fn shown(plan: MountBuilder) -> (Mount, MetricsAt, Browser) {
    let (plan, at) = MetricsAt::free(plan);
    let mount = plan.start();
    at.wait();
    let browser = Browser::start();
    browser.open(&format!("http://{}/", at.0));
    (mount, at, browser)
}

/// What axe, the checker of accessibility, finds wrong with a page.
fn found_by_axe(browser: &Browser) -> Value {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let axe = repository.join("target/axe/axe_playwright_python/axe.min.js");
    let axe = fs::read_to_string(axe).expect("axe: run scripts/test once, it installs it");
    // The page's policy lets the page run nothing else; the driver may.
    browser.run(&axe);
    let found = browser.run("return axe.run().then((result) => result.violations.map((it) => [it.id, it.nodes.map((node) => node.html + node.failureSummary)]))");
    assert!(found.is_array(), "{found}");
    found
}

/// Keeps a picture where `MEDIAFS_TEST_PICTURES` names a folder, for whoever looks.
fn picture(browser: &Browser, name: &str) {
    if let Some(folder) = std::env::var_os("MEDIAFS_TEST_PICTURES") {
        browser.screenshot(&Path::new(&folder).join(format!("{name}.png")));
    }
}

fn width(browser: &Browser, pixels: u32) {
    let mobile = pixels < 600;
    let metrics = json!({"width": pixels, "height": 900, "deviceScaleFactor": 1, "mobile": mobile});
    browser.devtools("Emulation.setDeviceMetricsOverride", &metrics);
}

fn colors(browser: &Browser, scheme: &str) {
    let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
    browser.devtools("Emulation.setEmulatedMedia", &features);
}

#[test]
fn the_page_renders_updates_by_itself_and_shows_an_outage_begin_and_end() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = plan.durability("disk").args(["--request-timeout", "5s"]);
    let (mount, _, browser) = shown(plan);
    // Others of this host may be on the page.
    let text = |part: &str| format!("{OWN}.innerText.includes({})", json!(part));
    browser.wait("the mount", &text(mount.bucket()));
    browser.wait("its state", &text("alive"));
    fs::write(mount.path("before.png"), vec![1; 300_000]).unwrap();
    fs::read(mount.path("before.png")).unwrap();
    let plots = format!("{OWN}.querySelectorAll('.plot svg polyline').length > 2");
    browser.wait("plots", &plots);
    picture(&browser, "calm");
    proxy.fail("*", Fault::Stall, 1_000_000);
    fs::write(mount.path("waits.png"), vec![2; 5000]).unwrap();
    browser.wait("the outage", &text("S3 does not answer since"));
    browser.wait("what to type", &text("mediafs doctor"));
    browser.wait("what waits", &text("waits.png"));
    browser.wait(
        "its mark",
        &format!("{OWN}.querySelector('.plot rect.down')"),
    );
    browser.wait("the title", "document.title.includes('degraded')");
    picture(&browser, "outage");
    proxy.heal();
    browser.wait("the end", &format!("!{OWN}.querySelector('.problems')"));
    browser.wait("all is sent", &text("All is in S3."));
    browser.wait("its state", &text("alive"));
    picture(&browser, "after");
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn everybody_can_read_the_page_on_a_phone_in_the_dark_and_without_scripts() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = plan.durability("disk").args(["--request-timeout", "5s"]);
    let (mount, at, browser) = shown(plan);
    let name = "a-long-name-of-a-file-without-a-single-space-in-it-that-is-longer-than-a-phone-is-wide.png";
    let mut open = File::create(mount.path(name)).unwrap();
    open.write_all(b"bytes").unwrap();
    proxy.fail("*", Fault::Stall, 1_000_000);
    sys::close(open).unwrap();
    browser.wait("an outage", "document.querySelector('.problems')");
    browser.wait("plots", "document.querySelector('.plot svg')");
    for scheme in ["light", "dark"] {
        colors(&browser, scheme);
        for pixels in [360, 1280] {
            width(&browser, pixels);
            browser.wait("the width", &format!("innerWidth === {pixels}"));
            let fits = "return document.documentElement.scrollWidth <= innerWidth";
            assert_eq!(browser.run(fits), true, "{pixels}");
            assert_eq!(found_by_axe(&browser), json!([]), "{scheme} {pixels}");
            picture(&browser, &format!("{scheme}-{pixels}"));
        }
    }
    let ground = "return getComputedStyle(document.body).backgroundColor";
    let dark = browser.run(ground);
    colors(&browser, "light");
    assert_ne!(browser.run(ground), dark);
    let off = json!({"value": true});
    browser.devtools("Emulation.setScriptExecutionDisabled", &off);
    browser.open(&format!("http://{}/", at.0));
    picture(&browser, "no-scripts");
    browser.devtools(
        "Emulation.setScriptExecutionDisabled",
        &json!({"value": false}),
    );
    let text = browser.run("return document.body.innerText");
    let text = text.as_str().unwrap();
    for part in ["The plots need scripts", "S3 does not answer", name, "USD"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_hostile_name_is_shown_as_it_is_and_runs_nothing() {
    let (mount, _, browser) = shown(Mount::builder().prefix("<b onclick=alert(1)>"));
    let mut open = File::create(mount.path(HOSTILE)).unwrap();
    open.write_all(b"half").unwrap();
    let shown = format!("document.body.innerText.includes({})", json!(HOSTILE));
    browser.wait("the name as it is", &shown);
    let made = "return document.querySelectorAll('img, b, [onerror], [onclick]').length";
    assert_eq!(browser.run(made), 0);
    assert!(
        !browser
            .run("return document.title")
            .to_string()
            .contains("owned")
    );
    sys::close(open).unwrap();
    wait_until(WITHIN, "the file in S3", || {
        mount.keys().iter().any(|key| key.contains("onerror"))
    });
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn the_page_has_every_mount_of_the_host_and_says_so_when_its_daemon_is_gone() {
    let other = Mount::builder().without("--control-socket").start();
    let (mut mount, _, browser) = shown(Mount::builder());
    for bucket in [mount.bucket(), other.bucket()] {
        let text = format!("document.body.innerText.includes({})", json!(bucket));
        browser.wait("a mount", &text);
    }
    browser.wait("the list", "document.querySelector('#overview')");
    picture(&browser, "two");
    mount.kill9();
    let gone = "document.body.innerText.includes('The daemon does not answer')";
    browser.wait("the end", gone);
}
