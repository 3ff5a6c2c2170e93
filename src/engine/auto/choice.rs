//! Which engine runs a program, and why. Nothing here asks anybody: what is known is given, the answer is a value.

use std::fmt;
use std::sync::Arc;

use crate::engine::Program;
use crate::images::{Meaning, PullPolicy};

/// Which engine is to run a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// Whichever suits it: see [`AutoEngine`](super::AutoEngine).
    #[default]
    Auto,
    /// A Docker Engine, or what speaks its API.
    Docker,
    /// Containers of dcgi's own making.
    Embedded,
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Docker => "docker",
            Self::Embedded => "embedded",
        })
    }
}

/// An engine that runs a program, and the reason in words for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Choice {
    /// As the configuration spells it.
    pub engine: &'static str,
    /// A part of a sentence, such as "the route asks for network `bridge`".
    pub why: String,
}

impl Choice {
    /// The engine that there is.
    pub(crate) fn only(engine: &'static str) -> Self {
        Self { engine, why: Why::Configured.to_string() }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.engine, self.why)
    }
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Docker,
    Embedded,
}

/// A choice that can still be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) engine: Which,
    pub(super) why: Why,
}

/// Why an engine was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Configured,
    /// What names an engine elsewhere, in words.
    Elsewhere(Arc<str>),
    /// Its root is no image but a directory.
    Directory,
    Network(String),
    /// A named volume is there that Docker has.
    Volume(String),
    /// A named volume is there that nobody has, and Docker has the image.
    NewVolume(String),
    /// A named volume is there that dcgi's store has, where Docker would otherwise serve.
    OwnVolume(String),
    /// As [`OwnVolume`](Self::OwnVolume), and the store has no image yet: so nobody can.
    Torn {
        volume: String,
        /// What becomes of the image.
        image: Box<Why>,
    },
    /// One of the named volumes is the store's, and another Docker's.
    Apart {
        ours: String,
        theirs: String,
    },
    /// Whether Docker has the image, or this volume, is not known: it is to be here, and has not answered yet.
    Unheard(Option<String>),
    /// Why the embedded engine cannot be had.
    Refused(Arc<str>),
    /// Somebody has put the image into dcgi's store.
    Own {
        /// And Docker has another of that name.
        another: bool,
    },
    TakenOver,
    /// Docker had another one by now when it was last heard of, or nothing was heard of it.
    LastTakenOver,
    /// Docker has none of that name any more.
    Kept,
    Pulled,
    Nowhere,
    Coming,
    /// Docker has it, and nothing is taken over here.
    Theirs,
    /// Docker had it, and does not answer.
    Lost,
    Stuck(Arc<str>),
}

/// What is known of the machine, and does not change.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    /// Why the embedded engine cannot be had.
    pub(super) refused: Option<Arc<str>>,
    /// What names an engine elsewhere, in words.
    pub(super) elsewhere: Option<Arc<str>>,
}

/// What is known of an image's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// What it means in dcgi's store.
    pub(super) stored: Option<Meaning>,
    /// What it means in the Docker Engine.
    pub(super) docker: InDocker,
}

/// What a name means in the Docker Engine, as far as that has ever answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum InDocker {
    #[default]
    Unknown,
    Missing,
    /// An image of this id.
    Has(String),
}

/// Whether the Docker Engine of this machine can be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voice {
    Answers,
    /// It is to be here, for its socket is, and does not answer.
    Silent,
    /// There is none, or none that we may speak to.
    Absent,
}

/// Who has a named volume. What has been written to it is there, and with nobody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeper {
    Docker,
    Store,
    Nobody,
    /// Not the store; and Docker does not say.
    Unknown,
}

/// How far the take-over of an image is that Docker has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TakeOver {
    Coming,
    Failed(Arc<str>),
    /// There is to be none.
    Off,
}

/// The choice that depends on nothing that may change.
pub(super) fn settled(program: &Program, surroundings: &Surroundings) -> Option<Decision> {
    match program.engine {
        EngineChoice::Docker => return Some(Decision::docker(Why::Configured)),
        EngineChoice::Embedded => return Some(Decision::embedded(Why::Configured)),
        EngineChoice::Auto => {}
    }
    if program.needs_embedded().is_some() {
        return Some(Decision::embedded(Why::Directory));
    }
    if let Some(what) = &surroundings.elsewhere {
        return Some(Decision::docker(Why::Elsewhere(what.clone())));
    }
    if program.needs_docker().is_some() {
        return Some(Decision::docker(Why::Network(program.network.as_str().to_owned())));
    }
    let refused = surroundings.refused.as_ref()?;
    Some(Decision::docker(Why::Refused(refused.clone())))
}

/// The choice by who has the named volumes, where these settle it.
pub(super) fn by_volumes(volumes: &[(&str, Keeper)]) -> Option<Decision> {
    let has = |keeper| volumes.iter().find(|(_, found)| *found == keeper);
    Some(Decision::docker(match (has(Keeper::Docker), has(Keeper::Store), has(Keeper::Unknown)) {
        (Some((theirs, _)), Some((ours, _)), _) => {
            Why::Apart { ours: (*ours).to_owned(), theirs: (*theirs).to_owned() }
        }
        (Some((name, _)), None, _) => Why::Volume((*name).to_owned()),
        (None, _, Some((name, _))) => Why::Unheard(Some((*name).to_owned())),
        (None, _, None) => return None,
    }))
}

/// The choice by where the image is, where nothing else has settled it: for a program with these named volumes, of which none
/// is Docker's.
pub(super) fn by_image(
    program: &Program,
    volumes: &[(&str, Keeper)],
    known: &Known,
    docker: Voice,
    take_over: impl FnOnce() -> TakeOver,
) -> Decision {
    let decision = by_image_alone(program, known, docker, take_over);
    let own = volumes.iter().find(|(_, keeper)| *keeper == Keeper::Store);
    match (decision, own) {
        // Docker would make another of the name, and what is written there would be out of sight when the route moves.
        (Decision { engine: Which::Docker, why }, Some((volume, _))) if why != Why::Unheard(None) => {
            let volume = (*volume).to_owned();
            match known.stored {
                Some(_) => Decision::embedded(Why::OwnVolume(volume)),
                None => Decision::docker(Why::Torn { volume, image: Box::new(why) }),
            }
        }
        // It makes it, and so keeps the route.
        (Decision { engine: Which::Docker, why: Why::Coming | Why::Theirs | Why::Stuck(_) }, None)
            if let Some((volume, _)) = volumes.first() =>
        {
            Decision::docker(Why::NewVolume((*volume).to_owned()))
        }
        (decision, _) => decision,
    }
}

fn by_image_alone(
    program: &Program,
    known: &Known,
    docker: Voice,
    take_over: impl FnOnce() -> TakeOver,
) -> Decision {
    let answers = docker == Voice::Answers;
    if program.pull == PullPolicy::Always {
        return Decision::embedded(Why::Pulled);
    }
    let stored = known.stored.as_ref();
    let taken_over = stored.and_then(|meaning| meaning.taken_over.as_ref());
    match (stored, &known.docker) {
        (Some(meaning), docker) if taken_over.is_none() => {
            let another = matches!(docker, InDocker::Has(id) if *id != meaning.id);
            Decision::embedded(Why::Own { another })
        }
        (Some(_), InDocker::Has(id)) if taken_over == Some(id) => Decision::embedded(Why::TakenOver),
        (Some(_), InDocker::Missing) if answers => Decision::embedded(Why::Kept),
        (Some(_), InDocker::Missing | InDocker::Unknown) => Decision::embedded(Why::LastTakenOver),
        (Some(_), InDocker::Has(_)) if !answers => Decision::embedded(Why::LastTakenOver),
        (_, InDocker::Has(_)) if !answers => Decision::docker(Why::Lost),
        (_, InDocker::Has(_)) => Decision::docker(match take_over() {
            TakeOver::Coming => Why::Coming,
            TakeOver::Failed(why) => Why::Stuck(why),
            TakeOver::Off => Why::Theirs,
        }),
        // A registry may have another of the name, which is not to be run in its stead.
        (None, InDocker::Unknown) if docker == Voice::Silent => Decision::docker(Why::Unheard(None)),
        (None, InDocker::Missing | InDocker::Unknown) => Decision::embedded(Why::Nowhere),
    }
}

// === impl Decision ===

impl Decision {
    pub(super) fn docker(why: Why) -> Self {
        Self { engine: Which::Docker, why }
    }

    pub(super) fn embedded(why: Why) -> Self {
        Self { engine: Which::Embedded, why }
    }
}

impl From<Decision> for Choice {
    fn from(decision: Decision) -> Self {
        Self { engine: decision.engine.name(), why: decision.why.to_string() }
    }
}

// === impl Which ===

impl Which {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Embedded => "embedded",
        }
    }
}

// === impl Why ===

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configured => f.write_str("the configuration says so"),
            Self::Elsewhere(what) => f.write_str(what),
            Self::Directory => f.write_str("the route's root is a directory"),
            Self::Network(name) => write!(f, "the route asks for network `{name}`"),
            Self::Volume(name) => write!(f, "volume `{name}` is Docker's"),
            Self::NewVolume(name) => {
                write!(f, "the image is Docker's, which makes volume `{name}` and keeps it")
            }
            Self::OwnVolume(name) => {
                write!(f, "dcgi's own store has volume `{name}`, and the image as it was last taken over")
            }
            Self::Torn { volume, image } => {
                write!(f, "dcgi's own store has volume `{volume}`, and Docker the image: nobody serves")?;
                match **image {
                    Self::Coming => f.write_str(" until that is taken over"),
                    ref why => write!(f, ", for {why}"),
                }
            }
            Self::Apart { ours, theirs } => write!(
                f,
                "dcgi's own store has volume `{ours}`, and Docker volume `{theirs}`: nobody serves both; `engine = \"embedded\"` \
                 in the route begins `{theirs}` anew, `engine = \"docker\"` `{ours}`"
            ),
            Self::Unheard(None) => f.write_str("what Docker has is not known: it has not answered yet"),
            Self::Unheard(Some(volume)) => {
                write!(f, "whether Docker has volume `{volume}` is not known: it has not answered yet")
            }
            Self::Refused(why) => f.write_str(why),
            Self::Own { another: false } => f.write_str("dcgi's own store has the image"),
            Self::Own { another: true } => f.write_str(
                "dcgi's own store has the image; Docker's of that name is another and is not used",
            ),
            Self::TakenOver => f.write_str("image taken over from Docker"),
            Self::LastTakenOver => {
                f.write_str("image as it was last taken over from Docker, which does not answer now")
            }
            Self::Kept => f.write_str("image taken over from Docker, which has none of that name any more"),
            Self::Pulled => f.write_str("the image is pulled from its registry"),
            Self::Nowhere => f.write_str("the image is neither in dcgi's own store nor in a Docker Engine"),
            Self::Coming => f.write_str("until its image is taken over"),
            Self::Theirs => f.write_str("the image is Docker's and not taken over"),
            Self::Lost => f.write_str("the image is Docker's, which does not answer now"),
            Self::Stuck(why) => write!(f, "the image cannot be taken over: {why}"),
        }
    }
}

#[cfg(test)]
mod tests;
