//! A headless Chromium, driven by chromedriver. Source: w3.org/TR/webdriver2.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::programs::{run_within, said, wait_until};
use super::servers::{dies_with_parent, free_ports, spawn_for_life};

/// A busy machine is slow to start it.
const WITHIN: Duration = Duration::from_secs(90);
const FLAGS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    // That of a container is small.
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    // It ends with its driver.
    "--remote-debugging-pipe",
    "--window-size=1280,900",
];

#[derive(Debug)]
pub struct Browser {
    /// Of the driver's answers to this session.
    session: String,
    driver: Child,
    dir: TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.ask("DELETE", "", None));
        drop(self.driver.kill());
        drop(self.driver.wait());
    }
}

impl Browser {
    #[track_caller]
    pub fn start() -> Self {
        let [port] = free_ports();
        let mut driver = dies_with_parent("KILL", "chromedriver");
        driver.arg(format!("--port={port}")).stdout(Stdio::null());
        let mut browser = Self {
            session: format!("http://127.0.0.1:{port}"),
            driver: spawn_for_life(driver),
            dir: tempfile::tempdir().unwrap(),
        };
        wait_until(WITHIN, "a driver", || {
            browser.ask("GET", "/status", None)["value"]["ready"] == true
        });
        let profile = browser.dir.path().join("profile");
        let mut flags: Vec<String> = FLAGS.map(str::to_owned).to_vec();
        flags.push(format!("--user-data-dir={}", profile.display()));
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": flags, "binary": "/usr/bin/chromium"},
            "goog:loggingPrefs": {"browser": "ALL"}
        }}});
        let made = browser.ask("POST", "/session", Some(&wanted));
        let id = made["value"]["sessionId"].as_str();
        let id = id.unwrap_or_else(|| panic!("no session: {made}"));
        browser.session = format!("{}/session/{id}", browser.session);
        browser
    }

    #[track_caller]
    pub fn open(&self, url: &str) {
        self.post("/url", json!({ "url": url }));
    }

    /// What a script returns, after it has been waited for where it is asynchronous.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({"script": script, "args": []}))
    }

    /// Waits until an expression holds in the page.
    #[track_caller]
    pub fn wait(&self, what: &str, expression: &str) {
        let script = format!("return !!({expression})");
        wait_until(WITHIN, what, || self.run(&script) == true);
    }

    /// A command of the developer tools.
    #[track_caller]
    pub fn devtools(&self, command: &str, params: &Value) {
        self.post(
            "/goog/cdp/execute",
            json!({"cmd": command, "params": params}),
        );
    }

    /// What the console has said since the last look.
    #[track_caller]
    pub fn console(&self) -> Vec<String> {
        let lines = self.post("/se/log", json!({"type": "browser"}));
        let lines = lines.as_array().unwrap().iter();
        lines.map(|line| line["message"].to_string()).collect()
    }

    /// For whoever looks at what a test saw.
    pub fn screenshot(&self, file: &Path) {
        let shot = self.ask("GET", "/screenshot", None);
        let bytes = base64::Engine::decode(
            &base64::engine::general_purpose::STANDARD,
            shot["value"].as_str().unwrap_or_default(),
        );
        fs::write(file, bytes.unwrap()).unwrap();
    }

    #[track_caller]
    fn post(&self, path: &str, body: Value) -> Value {
        let mut answer = self.ask("POST", path, Some(&body));
        assert!(answer["value"]["error"].is_null(), "{path}: {answer}");
        answer["value"].take()
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "90", "-X", method]);
        command.arg(format!("{}{path}", self.session));
        if let Some(body) = body {
            // A script may be longer than an argument.
            let file = self.dir.path().join("body");
            fs::write(&file, body.to_string()).unwrap();
            command.args(["-H", "content-type: application/json", "--data-binary"]);
            command.arg(format!("@{}", file.display()));
        }
        let output = run_within(WITHIN, &mut command);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| json!({"value": {"error": said(&output)}}))
    }
}
