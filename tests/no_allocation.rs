//! The launcher's processes allocate nothing: they are forks of a process with threads, any of which may have held the
//! allocator's lock at that moment.
//!
//! This process is the one that is forked. Its allocator ends every process but this one that comes to it; what would
//! then be missing is an answer.
#![allow(unsafe_code, reason = "an allocator")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use bytes::Bytes;
use dcgi::Handler;
use dcgi::engine::embedded::EmbeddedEngine;
use dcgi::engine::{Connect, Engine, Inside, Outside, Program, Volume, Warm};
use dcgi::gateway::ProgramRoute;
use dcgi::site::Route;
use http::Request;
use http_body_util::{BodyExt, Empty};
use tower::ServiceExt;

use common::embedded::{Store, named, store_with};
use common::{PATIENCE, wait_until};

struct Guarded;

/// The process that may allocate: the one that did so first.
static OWNER: AtomicI32 = AtomicI32::new(0);

fn check() {
    // The kernel's answer: nothing that a fork would have copied.
    let own = rustix::process::getpid().as_raw_nonzero().get();
    if let Err(owner) = OWNER.compare_exchange(0, own, Ordering::Relaxed, Ordering::Relaxed)
        && owner != own
    {
        std::process::abort();
    }
}

// SAFETY: all is the system's allocator's.
unsafe impl GlobalAlloc for Guarded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        check();
        // SAFETY: as the caller says.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Guarded = Guarded;

fn probe() -> Store {
    store_with(&[("test/probe", "probe.rs", &["/app/probe"])])
}

async fn engine(store: &Store) -> Arc<EmbeddedEngine> {
    let store = dcgi::images::Store::open(store.path()).unwrap();
    Arc::new(EmbeddedEngine::new(store).await.unwrap())
}

fn program(warm: u32) -> Program {
    Program { warm: Warm::Fixed(warm), ..Program::new("test/probe") }
}

fn serving(engine: &Arc<EmbeddedEngine>, program: Program) -> Handler {
    let route = Route::new("/", ProgramRoute { debug_errors: true, ..program.into() });
    Handler::builder(engine.clone()).route(route).build()
}

async fn get(handler: &Handler, query: &str) -> (u16, String) {
    let request = Request::get(format!("http://localhost/?{query}")).body(Empty::<Bytes>::new()).unwrap();
    let response = handler.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// A few requests, one after the other: the first is cold, the others have a slot that served before.
async fn serves(engine: &Arc<EmbeddedEngine>, program: Program) {
    let what = format!("{program:?}");
    // Process 1 cannot end itself by a signal.
    let end = if program.init { "kill=9" } else { "exit=3" };
    let handler = serving(engine, program);
    for _ in 0..3 {
        assert_eq!(get(&handler, "text&print=served").await, (200, "served".to_owned()), "{what}");
    }
    // Other ends of a sandbox: processes are left behind, the program is killed.
    assert_eq!(get(&handler, "text&orphan=100000&print=served").await.0, 200, "{what}");
    let (status, said) = get(&handler, end).await;
    assert_eq!(status, 502, "{what}");
    let how = if end == "kill=9" { "killed by signal 9" } else { "exit status 3" };
    assert!(said.contains(how), "{said}");
    assert_eq!(get(&handler, "text&print=served").await.0, 200, "{what}");
    engine.drained().await;
}

/// The failure is the one that was meant: not the end of a process that allocated.
async fn fails(engine: &Arc<EmbeddedEngine>, program: Program, why: &str) {
    let handler = serving(engine, program);
    for _ in 0..2 {
        let (status, said) = get(&handler, "text").await;
        assert_eq!(status, 502, "{said}");
        assert!(said.contains(why), "{said}");
    }
    engine.drained().await;
}

async fn every_way_of_a_container(engine: &Arc<EmbeddedEngine>) {
    serves(engine, program(0)).await;
    serves(engine, program(2)).await;
    serves(engine, Program { init: false, ..program(0) }).await;
    serves(engine, Program { init: false, ..program(2) }).await;
    serves(engine, Program { read_only: false, ..program(0) }).await;
    serves(engine, Program { read_only: false, ..program(2) }).await;
    serves(engine, Program { user: Some("1000:1000".to_owned()), ..program(0) }).await;
    serves(engine, Program { cap_add: vec!["NET_BIND_SERVICE".to_owned()], ..program(0) }).await;
    let connect = Connect {
        inside: Inside::Tcp(([127, 0, 0, 1], 5432).into()),
        outside: Outside::Tcp("db".to_owned(), 1),
    };
    serves(engine, Program { connect: vec![connect], ..program(0) }).await;
    let volume = Volume::Named { name: "kept".to_owned(), target: "/data".to_owned(), read_only: false };
    serves(engine, Program { volumes: vec![volume], ..program(0) }).await;
    // Of this machine: within memory, in a root of parts of it, for an owner whom nobody is.
    let executable = common::embedded::compiled("probe.rs");
    let folder = executable.parent().unwrap().to_owned();
    let bind =
        |target: &str| Volume::Bind { source: folder.clone(), target: target.to_owned(), read_only: true };
    for read_only in [true, false] {
        let volumes = vec![bind("/tmp/within/memory")];
        serves(engine, Program { volumes, read_only, ..program(0) }).await;
        let name = executable.file_name().unwrap().to_str().unwrap();
        let machine = Program::of_rootfs("/", [format!("/probe/{name}")]);
        let root = Some("root".to_owned());
        serves(engine, Program { volumes: vec![bind("/probe")], read_only, user: root, ..machine }).await;
    }
    // More than one message to a sandbox.
    let long = BTreeMap::from([("LONG".to_owned(), "x".repeat(100_000))]);
    serves(engine, Program { env: long, ..program(0) }).await;

    let missing = Some(vec!["/app/missing".to_owned()]);
    fails(engine, Program { entrypoint: missing.clone(), ..program(0) }, "No such file or directory").await;
    fails(engine, Program { entrypoint: missing.clone(), ..program(2) }, "No such file or directory").await;
    fails(engine, Program { entrypoint: missing, init: false, ..program(0) }, "No such file or directory")
        .await;
    let no_program = Some(vec!["/data/in-image".to_owned()]);
    fails(engine, Program { entrypoint: no_program, ..program(0) }, "Permission denied").await;
    let nowhere = Some("/nowhere".to_owned());
    fails(engine, Program { working_dir: nowhere, ..program(0) }, "entering the working directory").await;
    let wrong = vec!["/tmp:size=nonsense".to_owned()];
    fails(engine, Program { tmpfs: wrong.clone(), ..program(0) }, "mounting tmpfs at /tmp").await;
    fails(engine, Program { tmpfs: wrong, init: false, ..program(0) }, "mounting tmpfs at /tmp").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_processes_of_the_launcher_allocate_nothing() {
    let store = probe();
    let engine = engine(&store).await;
    every_way_of_a_container(&engine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_another_thread_holds_at_the_fork_does_not_matter() {
    let store = probe();
    let done = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..8)
        .map(|number| {
            let done = done.clone();
            std::thread::spawn(move || {
                let mut held = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    // Of every size, freed later; some of them mapped on their own.
                    held.push(black_box(vec![0_u8; 1 << (number + held.len() % 12)]));
                    if held.len() > 64 {
                        held.drain(..32);
                    }
                }
            })
        })
        .collect();
    for _ in 0..20 {
        let engine = engine(&store).await;
        let handler = serving(&engine, program(1));
        for _ in 0..3 {
            assert_eq!(get(&handler, "text&print=served").await, (200, "served".to_owned()));
        }
        engine.drained().await;
    }
    done.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    // The other test's may be there.
    wait_until("the zygotes are gone", PATIENCE, || named(std::process::id(), "dcgi-zygote").len() <= 1);
}
