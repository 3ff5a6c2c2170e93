//! The rules, one a test.

use super::*;
use crate::engine::{Network, Volume};

const THE_ID: &str = "sha256:one";

fn nothing_special() -> Surroundings {
    Surroundings::default()
}

fn elsewhere() -> Surroundings {
    Surroundings { elsewhere: Some("DOCKER_HOST names tcp://far:2375".into()), refused: None }
}

fn refused() -> Surroundings {
    Surroundings { refused: Some("the kernel refuses user namespaces".into()), elsewhere: None }
}

fn program() -> Program {
    Program::new("hello")
}

#[track_caller]
fn says(decision: Option<Decision>, expected: &str) {
    assert_eq!(Choice::from(decision.expect("it is settled")).to_string(), expected);
}

/// What is chosen by the image, where Docker answers, nothing was tried, and a take-over is possible.
fn chosen(stored: Option<Meaning>, docker: InDocker) -> String {
    let known = Known { stored, docker };
    Choice::from(by_image(&program(), &[], &known, Voice::Answers, || TakeOver::Coming)).to_string()
}

fn own() -> Option<Meaning> {
    Some(meaning("sha256:own", None))
}

fn taken_over(id: &str) -> Option<Meaning> {
    Some(meaning("sha256:config", Some(id)))
}

fn meaning(id: &str, taken_over: Option<&str>) -> Meaning {
    Meaning::new(id.to_owned(), taken_over.map(str::to_owned))
}

fn has(id: &str) -> InDocker {
    InDocker::Has(id.to_owned())
}

// === what does not depend on the image ===

#[test]
fn what_the_configuration_names_wins_over_everything() {
    let mut program = program();
    program.network = Network::Bridge;
    program.engine = EngineChoice::Embedded;
    says(settled(&program, &elsewhere()), "embedded: the configuration says so");
    program.network = Network::None;
    program.engine = EngineChoice::Docker;
    says(settled(&program, &nothing_special()), "docker: the configuration says so");
}

#[test]
fn an_engine_elsewhere_is_used_where_the_environment_names_one() {
    says(settled(&program(), &elsewhere()), "docker: DOCKER_HOST names tcp://far:2375");
}

#[test]
fn a_network_that_only_docker_has_is_dockers() {
    let mut program = program();
    program.network = Network::Bridge;
    says(settled(&program, &nothing_special()), "docker: the route asks for network `bridge`");
    program.network = Network::Named("back".to_owned());
    says(settled(&program, &nothing_special()), "docker: the route asks for network `back`");
    program.network = Network::Host;
    assert_eq!(settled(&program, &nothing_special()), None);
}

#[test]
fn where_the_kernel_refuses_docker_is_left() {
    says(settled(&program(), &refused()), "docker: the kernel refuses user namespaces");
}

#[test]
fn a_volume_settles_nothing_by_its_name_alone() {
    let mut program = program();
    let target = "/data".to_owned();
    program.volumes.push(Volume::Named { name: "data".to_owned(), target, read_only: false });
    assert_eq!(settled(&program, &nothing_special()), None);
}

// === by the image ===

#[test]
fn an_image_of_the_own_store_is_used_whatever_docker_has() {
    assert_eq!(chosen(own(), InDocker::Missing), "embedded: dcgi's own store has the image");
    assert_eq!(chosen(own(), has("sha256:own")), "embedded: dcgi's own store has the image");
    assert_eq!(
        chosen(own(), has(THE_ID)),
        "embedded: dcgi's own store has the image; Docker's of that name is another and is not used"
    );
}

#[test]
fn dockers_image_is_served_by_docker_until_it_is_taken_over() {
    assert_eq!(chosen(None, has(THE_ID)), "docker: until its image is taken over");
    assert_eq!(chosen(taken_over(THE_ID), has(THE_ID)), "embedded: image taken over from Docker");
}

#[test]
fn an_image_that_was_built_anew_is_dockers_again_until_it_is_taken_over() {
    assert_eq!(chosen(taken_over("sha256:before"), has(THE_ID)), "docker: until its image is taken over");
}

#[test]
fn an_image_that_docker_has_forgotten_goes_on_being_served() {
    assert_eq!(
        chosen(taken_over(THE_ID), InDocker::Missing),
        "embedded: image taken over from Docker, which has none of that name any more"
    );
}

#[test]
fn an_image_that_is_nowhere_is_for_the_embedded_engine_to_pull() {
    let nowhere = "embedded: the image is neither in dcgi's own store nor in a Docker Engine";
    assert_eq!(chosen(None, InDocker::Missing), nowhere);
    assert_eq!(chosen(None, InDocker::Unknown), nowhere);
}

#[test]
fn what_an_engine_has_that_is_to_be_here_and_was_not_heard_is_not_guessed() {
    let by = |docker, voice| {
        let known = Known { stored: None, docker };
        by_image(&program(), &[], &known, voice, || panic!("nobody asks"))
    };
    assert_eq!(by(InDocker::Unknown, Voice::Silent), Decision::docker(Why::Unheard(None)));
    assert_eq!(by(InDocker::Unknown, Voice::Absent), Decision::embedded(Why::Nowhere));
    // It has said so.
    assert_eq!(by(InDocker::Missing, Voice::Silent), Decision::embedded(Why::Nowhere));
}

// === by the named volumes ===

#[test]
fn a_volume_stays_with_whoever_has_it() {
    let volume = || Some(Decision::docker(Why::Volume("data".to_owned())));
    assert_eq!(by_volumes(&[("data", Keeper::Docker)]), volume());
    assert_eq!(by_volumes(&[("new", Keeper::Unknown), ("data", Keeper::Docker)]), volume());
    let unheard = Why::Unheard(Some("data".to_owned()));
    assert_eq!(by_volumes(&[("data", Keeper::Unknown)]), Some(Decision::docker(unheard)));
    // Whoever served would begin the other's anew.
    let apart = Why::Apart { ours: "one".to_owned(), theirs: "two".to_owned() };
    let volumes = [("one", Keeper::Store), ("two", Keeper::Docker), ("new", Keeper::Nobody)];
    assert_eq!(by_volumes(&volumes), Some(Decision::docker(apart)));
    assert_eq!(by_volumes(&[("data", Keeper::Store), ("new", Keeper::Nobody)]), None);
}

#[test]
fn who_has_the_image_makes_a_new_volume() {
    let by = |stored, docker| {
        let new = [("data", Keeper::Nobody)];
        by_image(&program(), &new, &Known { stored, docker }, Voice::Answers, || TakeOver::Coming)
    };
    assert_eq!(by(None, has(THE_ID)), Decision::docker(Why::NewVolume("data".to_owned())));
    assert_eq!(by(taken_over(THE_ID), has(THE_ID)), Decision::embedded(Why::TakenOver));
    assert_eq!(by(None, InDocker::Missing), Decision::embedded(Why::Nowhere));
}

#[test]
fn docker_does_not_serve_where_the_store_has_the_volume() {
    let own = [("new", Keeper::Nobody), ("data", Keeper::Store)];
    let by = |stored, docker| {
        let known = Known { stored, docker };
        Choice::from(by_image(&program(), &own, &known, Voice::Answers, || TakeOver::Coming)).to_string()
    };
    assert_eq!(by(taken_over(THE_ID), has(THE_ID)), "embedded: image taken over from Docker");
    assert_eq!(
        by(taken_over("sha256:before"), has(THE_ID)),
        "embedded: dcgi's own store has volume `data`, and the image as it was last taken over"
    );
    assert_eq!(
        by(None, has(THE_ID)),
        "docker: dcgi's own store has volume `data`, and Docker the image: nobody serves until that is taken over"
    );
}

#[test]
fn what_is_always_pulled_is_not_taken_over() {
    let mut program = program();
    program.pull = PullPolicy::Always;
    let known = Known { stored: None, docker: has(THE_ID) };
    let decision = by_image(&program, &[], &known, Voice::Answers, || panic!("nobody asks"));
    assert_eq!(decision, Decision::embedded(Why::Pulled));
}

#[test]
fn while_docker_does_not_answer_what_was_taken_over_serves() {
    let by = |stored: Option<Meaning>, docker: InDocker| {
        by_image(&program(), &[], &Known { stored, docker }, Voice::Silent, || panic!("nobody asks"))
    };
    assert_eq!(by(taken_over(THE_ID), has(THE_ID)), Decision::embedded(Why::TakenOver));
    assert_eq!(by(taken_over("sha256:before"), has(THE_ID)), Decision::embedded(Why::LastTakenOver));
    assert_eq!(by(taken_over(THE_ID), InDocker::Unknown), Decision::embedded(Why::LastTakenOver));
    // Not pulled: it is known to be Docker's.
    assert_eq!(by(None, has(THE_ID)), Decision::docker(Why::Lost));
}

#[test]
fn a_take_over_that_failed_leaves_docker_serving_and_is_told() {
    let known = Known { stored: taken_over("sha256:before"), docker: has(THE_ID) };
    let decision =
        by_image(&program(), &[], &known, Voice::Answers, || TakeOver::Failed("the disk is full".into()));
    assert_eq!(
        Choice::from(decision).to_string(),
        "docker: the image cannot be taken over: the disk is full"
    );
    let decision = by_image(&program(), &[], &known, Voice::Answers, || TakeOver::Off);
    assert_eq!(Choice::from(decision).to_string(), "docker: the image is Docker's and not taken over");
}
