//! What holds for any sequence of entries.

use proptest::prelude::*;
use tar::EntryType;

use super::tests::{Layer, Stage};

/// Few names, so that they meet.
fn name() -> impl Strategy<Value = String> {
    let component = prop::sample::select(vec![
        "a",
        "b",
        "c",
        "..",
        ".",
        "",
        ".wh.a",
        ".wh.b",
        ".wh..wh..opq",
        ".wh...",
        "outside",
        "secret",
    ]);
    prop::collection::vec(component, 1..4).prop_map(|components| components.join("/"))
}

fn kind() -> impl Strategy<Value = EntryType> {
    prop::sample::select(vec![
        EntryType::Regular,
        EntryType::Regular,
        EntryType::Directory,
        EntryType::Symlink,
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Fifo,
        EntryType::Char,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_outside_is_ever_touched(
        layers in prop::collection::vec(prop::collection::vec((kind(), name(), name(), 0u32..0o10000), 0..12), 1..4)
    ) {
        let mut stage = Stage::new();
        for entries in layers {
            // One at a time, so that those behind a refused one are tried too.
            for (kind, path, target, mode) in entries {
                let content: &[u8] = if kind == EntryType::Regular { b"x" } else { b"" };
                _ = stage.apply(Layer::default().entry(kind, &path, &target, mode, content));
                stage.outside_is_untouched();
            }
        }
        let (folder, _) = stage.finish();
        // Whatever the modes are: all of it can be removed.
        let base = std::fs::File::open(folder.path()).unwrap();
        crate::images::removal::remove_tree(&base, b"rootfs").unwrap();
        prop_assert!(!folder.path().join("rootfs").exists());
    }

    #[test]
    fn no_bytes_make_the_reader_panic(
        blocks in prop::collection::vec((0usize..6, prop::collection::vec(any::<u8>(), 0..64)), 0..8)
    ) {
        let kinds = [b'0', b'5', b'L', b'K', b'x', b'S'];
        let mut bytes = Vec::new();
        for (kind, noise) in blocks {
            let mut header = tar::Header::new_gnu();
            header.set_size(noise.len() as u64);
            header.set_entry_type(EntryType::new(kinds[kind]));
            let place = noise.first().map_or(0, |byte| usize::from(*byte)) * 7 % 440;
            header.as_mut_bytes()[place..place + noise.len()].copy_from_slice(&noise);
            header.set_cksum();
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(&noise);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        let mut archive = crate::images::archive::Archive::new(&*bytes);
        while let Ok(Some(_)) = archive.next() {}
    }
}
