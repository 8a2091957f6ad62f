//! What is to be done, in its order, and what came of it.

use async_trait::async_trait;
use serde::Serialize;

use crate::session;

/// Where one thing stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// As it should be.
    Done(String),
    /// What will be done.
    ToDo(String),
    /// It cannot be had here, and why.
    Skipped(String),
    /// Nobody can tell now, and why.
    Unknown(String),
    /// Somebody has it otherwise: what, and a line for each difference.
    Conflict(String, Vec<String>),
}

/// Something that a mount needs, and that is looked at before and after it is changed.
/// Its requests are asked one after the other, by one thread.
#[async_trait(?Send)]
pub trait Task {
    /// Stable: programs read it.
    fn name(&self) -> &'static str;

    /// Changes nothing. Errors: what keeps the whole setup from going on.
    async fn look(&self) -> anyhow::Result<Found>;

    /// Brings it about. Errors: why not; `Lacking` where it cannot be had here.
    async fn change(&self) -> anyhow::Result<()>;

    /// Whether nothing that comes later makes sense without it.
    fn is_needed(&self) -> bool {
        false
    }
}

/// A line of the plan that nothing is to be done about.
#[derive(Debug)]
pub struct Notice {
    pub name: &'static str,
    pub found: Found,
}

#[async_trait(?Send)]
impl Task for Notice {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn look(&self) -> anyhow::Result<Found> {
        Ok(self.found.clone())
    }

    async fn change(&self) -> anyhow::Result<()> {
        Ok(())
    }
}

/// It cannot be had here, and that is no failure.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Lacking(pub String);

/// How a step stands, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    Ok,
    /// To be done.
    Todo,
    /// Done just now.
    Done,
    Skipped,
    Conflict,
    Failed,
}

/// One line of a plan or of its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    pub name: &'static str,
    pub state: StepState,
    pub text: String,
    /// What differs, in a conflict.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
}

impl Step {
    pub fn new(name: &'static str, found: Found) -> Self {
        let (state, text, differences) = match found {
            Found::Done(text) => (StepState::Ok, text, Vec::new()),
            Found::ToDo(text) => (StepState::Todo, text, Vec::new()),
            Found::Skipped(text) => (StepState::Skipped, text, Vec::new()),
            Found::Unknown(text) => (StepState::Failed, text, Vec::new()),
            Found::Conflict(text, differences) => (StepState::Conflict, text, differences),
        };
        Self {
            name,
            state,
            text,
            differences,
        }
    }

    fn with(self, state: StepState) -> Self {
        Self { state, ..self }
    }

    fn failed(name: &'static str, error: &anyhow::Error) -> Self {
        Self {
            name,
            state: StepState::Failed,
            text: session::in_words(error),
            differences: Vec::new(),
        }
    }
}

/// What to do about what somebody has otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    Refuse,
    Replace,
}

/// Looks at everything.
pub async fn look(tasks: &[Box<dyn Task>]) -> anyhow::Result<Vec<Step>> {
    let mut steps = Vec::with_capacity(tasks.len());
    for task in tasks {
        steps.push(Step::new(task.name(), task.look().await?));
    }
    Ok(steps)
}

/// Does what is to be done, and looks at it again. Each step is told when it is over.
/// What another setup has done meanwhile is not done again.
pub async fn carry_out(
    tasks: &[Box<dyn Task>],
    on_conflict: OnConflict,
    mut tell: impl FnMut(&Step),
) -> Vec<Step> {
    let mut steps = Vec::with_capacity(tasks.len());
    for task in tasks {
        let step = match carry_out_one(task.as_ref(), on_conflict).await {
            Ok(step) => step,
            Err(error) => match error.downcast_ref::<Lacking>() {
                Some(lacking) => Step::new(task.name(), Found::Skipped(lacking.to_string())),
                None => Step::failed(task.name(), &error),
            },
        };
        let is_over =
            task.is_needed() && matches!(step.state, StepState::Failed | StepState::Conflict);
        tell(&step);
        steps.push(step);
        if is_over {
            break;
        }
    }
    steps
}

async fn carry_out_one(task: &dyn Task, on_conflict: OnConflict) -> anyhow::Result<Step> {
    /// A store may need a moment to show what it took.
    const LOOKS: u32 = 6;
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);
    let before = Step::new(task.name(), task.look().await?);
    match (before.state, on_conflict) {
        (StepState::Todo, _) | (StepState::Conflict, OnConflict::Replace) => {}
        _ => return Ok(before),
    }
    let changed = task.change().await;
    if let Err(error) = changed {
        // Its answer may be what was lost.
        let is_done = matches!(task.look().await, Ok(Found::Done(_)));
        if !is_done || error.is::<Lacking>() {
            return Err(error);
        }
    }
    let mut looks = 1;
    loop {
        let after = Step::new(task.name(), task.look().await?);
        match after.state {
            StepState::Ok => return Ok(before.with(StepState::Done)),
            StepState::Todo | StepState::Conflict if looks < LOOKS => {
                looks += 1;
                tokio::time::sleep(PAUSE).await;
            }
            StepState::Todo | StepState::Conflict => anyhow::bail!(
                "it was set, and is not there: another program sets it too, or the store did not keep it; run the setup again"
            ),
            _ => return Ok(after),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    /// Becomes as it should be when it is changed, unless it cannot.
    struct Made {
        found: Arc<Mutex<Found>>,
        fails: Option<&'static str>,
        needed: bool,
    }

    #[async_trait(?Send)]
    impl Task for Made {
        fn name(&self) -> &'static str {
            "made"
        }

        async fn look(&self) -> anyhow::Result<Found> {
            Ok(self.found.lock().clone())
        }

        async fn change(&self) -> anyhow::Result<()> {
            match self.fails {
                Some("lacking") => Err(Lacking("no such thing".into()).into()),
                Some("silent") => Ok(()),
                Some("turns out") => {
                    *self.found.lock() = Found::Skipped("no such flag".into());
                    Ok(())
                }
                Some(why) => anyhow::bail!(why),
                None => {
                    *self.found.lock() = Found::Done("made".into());
                    Ok(())
                }
            }
        }

        fn is_needed(&self) -> bool {
            self.needed
        }
    }

    fn made(found: Found, fails: Option<&'static str>, needed: bool) -> Box<dyn Task> {
        let found = Arc::new(Mutex::new(found));
        Box::new(Made {
            found,
            fails,
            needed,
        })
    }

    fn todo(fails: Option<&'static str>, needed: bool) -> Box<dyn Task> {
        made(Found::ToDo("make it".into()), fails, needed)
    }

    async fn states(tasks: &[Box<dyn Task>], on_conflict: OnConflict) -> Vec<StepState> {
        let steps = carry_out(tasks, on_conflict, |_| ()).await;
        steps.into_iter().map(|step| step.state).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_done_is_looked_at_again_and_a_second_run_does_nothing() {
        let tasks = [todo(None, false), todo(Some("silent"), false)];
        let first = states(&tasks, OnConflict::Refuse).await;
        assert_eq!(first, [StepState::Done, StepState::Failed]);
        let again = states(&tasks[..1], OnConflict::Refuse).await;
        assert_eq!(again, [StepState::Ok]);
    }

    #[tokio::test]
    async fn what_a_store_lacks_is_skipped_and_what_fails_ends_it_only_where_it_is_needed() {
        let tasks = [
            todo(Some("lacking"), true),
            todo(Some("refused"), false),
            todo(Some("refused"), true),
            todo(None, false),
        ];
        let states = states(&tasks, OnConflict::Refuse).await;
        let want = [StepState::Skipped, StepState::Failed, StepState::Failed];
        assert_eq!(states, want);
    }

    #[tokio::test]
    async fn what_turns_out_to_be_lacking_after_it_was_done_is_skipped_and_all_else_goes_on() {
        let tasks = [todo(Some("turns out"), true), todo(None, false)];
        let steps = carry_out(&tasks, OnConflict::Refuse, |_| ()).await;
        let found: Vec<_> = steps
            .iter()
            .map(|it| (it.state, it.text.as_str()))
            .collect();
        let want = [
            (StepState::Skipped, "no such flag"),
            (StepState::Done, "make it"),
        ];
        assert_eq!(found, want);
    }

    #[tokio::test]
    async fn a_conflict_is_left_alone_unless_it_may_be_replaced() {
        let conflict = || made(Found::Conflict("otherwise".into(), vec![]), None, false);
        let left = states(&[conflict()], OnConflict::Refuse).await;
        assert_eq!(left, [StepState::Conflict]);
        let replaced = states(&[conflict()], OnConflict::Replace).await;
        assert_eq!(replaced, [StepState::Done]);
    }
}
