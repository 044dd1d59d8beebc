//! The feature cache: what comes back is what went in, damage is a miss, limits hold, and nothing fails a run.

use edgetune::cache::{
    Cache, Error, Key, LIMIT_BYTES_MAX, Limits, Warning, hold, key, limit, make_room_for_bundle, mark, root, set_limit,
    taken_bytes,
};
use edgetune::graph::{DType, Dim, TensorType};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const LIMITS: Limits = Limits { disk_bytes: 1 << 24, disk_free_bytes_min: 0, memory_bytes: 1 << 16 };
const BODY: Key = [0xab; 32];
/// Bytes of a key and its checksum, and of what comes before them.
const ENTRY_BYTES: u64 = 40;
const HEAD_BYTES: u64 = 64;

fn ty(dtype: DType, shape: &[u64]) -> TensorType {
    TensorType::new(dtype, shape.iter().map(|size| Dim::Fixed(*size)).collect())
}

/// 5 × f32 and 3 × i64: a record of two features at 64 bytes each.
fn layout() -> Vec<TensorType> {
    vec![ty(DType::Float, &[5]), ty(DType::Int64, &[3, 1])]
}

const RECORD_BYTES: u64 = 128;

fn open(root: &Path) -> Cache {
    Cache::open(root, &BODY, &layout(), LIMITS).unwrap()
}

fn sample(number: u32) -> Key {
    key(&[&number.to_le_bytes()])
}

fn features(number: u32) -> (Vec<u8>, Vec<u8>) {
    let floats = (0..5).flat_map(|index| ((number * 10 + index) as f32).to_le_bytes()).collect();
    (floats, (0..3).flat_map(|index| i64::from(number + index).to_le_bytes()).collect())
}

fn append(cache: &mut Cache, number: u32) -> bool {
    let (floats, ints) = features(number);
    cache.append(&sample(number), &[&floats, &ints]).unwrap()
}

/// Whether the sample is there; what is there must be right.
fn holds(cache: &mut Cache, number: u32) -> bool {
    let Some(record) = cache.get(&sample(number)) else { return false };
    let (floats, ints) = features(number);
    assert_eq!((record.bytes(0), record.bytes(1)), (&floats[..], &ints[..]), "sample {number}");
    true
}

fn held(cache: &mut Cache, numbers: std::ops::Range<u32>) -> Vec<u32> {
    numbers.filter(|number| holds(cache, *number)).collect()
}

/// A file of the only body in the cache.
fn file(root: &Path, name: &str) -> PathBuf {
    let folders: Vec<_> = fs::read_dir(root.join("features")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(folders.len(), 1);
    folders[0].join(name)
}

fn write_at(path: &Path, at: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

#[test]
fn what_was_appended_comes_back_in_this_and_the_next_process() {
    let root = tempfile::tempdir().unwrap();
    let mut cache = open(root.path());
    assert!(!holds(&mut cache, 0) && cache.is_empty());
    for number in 0..50 {
        assert!(append(&mut cache, number));
        // Read at once every now and then: the map must follow the file.
        assert!(number % 7 != 0 || holds(&mut cache, number));
    }
    assert!(append(&mut cache, 3), "a second time is no second record");
    assert_eq!((cache.len(), cache.bytes()), (50, HEAD_BYTES + 50 * (RECORD_BYTES + ENTRY_BYTES)));
    cache.flush();
    drop(cache);
    let mut cache = open(root.path());
    assert_eq!(held(&mut cache, 0..60), (0..50).collect::<Vec<_>>());
    assert!(append(&mut cache, 50) && holds(&mut cache, 50));
    assert!(cache.take_warnings().is_empty());
}

#[test]
fn records_are_tensors_without_a_copy_and_outlive_the_cache() {
    let root = tempfile::tempdir().unwrap();
    for mut cache in [open(root.path()), Cache::in_memory(&layout(), 1 << 16).unwrap()] {
        append(&mut cache, 4);
        append(&mut cache, 5);
        let record = cache.get(&sample(5)).unwrap();
        append(&mut cache, 6);
        assert!(holds(&mut cache, 6));
        drop(cache);
        assert_eq!(record.len(), 2);
        let (floats, ints) = (record.tensor(0), record.tensor(1));
        assert_eq!(floats.data.as_ptr(), record.bytes(0).as_ptr());
        assert_eq!(record.bytes(0).as_ptr().align_offset(64), 0);
        assert_eq!(floats.as_slice::<f32>().unwrap(), [50.0, 51.0, 52.0, 53.0, 54.0]);
        assert_eq!((ints.shape.as_slice(), ints.as_slice::<i64>().unwrap()), (&[3, 1][..], &[5, 6, 7][..]));
    }
}

/// A process killed between any two bytes: whatever length the files have, whole records stay and the rest is a miss.
#[test]
fn torn_tails_are_dropped_and_written_again() {
    let root = tempfile::tempdir().unwrap();
    let mut cache = open(root.path());
    (0..4).for_each(|number| assert!(append(&mut cache, number)));
    drop(cache);
    let (records, keys) = (file(root.path(), "records"), file(root.path(), "keys"));
    let (all_records, all_keys) = (fs::read(&records).unwrap(), fs::read(&keys).unwrap());
    let cut = |path: &Path, bytes: &[u8], length: u64| fs::write(path, &bytes[..length as usize]).unwrap();
    for (records_length, keys_length, expected) in [
        (4 * RECORD_BYTES, HEAD_BYTES + 4 * ENTRY_BYTES - 1, 3),
        (4 * RECORD_BYTES, HEAD_BYTES + 3 * ENTRY_BYTES, 3),
        (4 * RECORD_BYTES - 1, HEAD_BYTES + 4 * ENTRY_BYTES, 3),
        (RECORD_BYTES + 1, HEAD_BYTES + 4 * ENTRY_BYTES, 1),
        (0, HEAD_BYTES + 4 * ENTRY_BYTES, 0),
        (4 * RECORD_BYTES, HEAD_BYTES - 1, 0),
        (4 * RECORD_BYTES, 0, 0),
    ] {
        cut(&records, &all_records, records_length);
        cut(&keys, &all_keys, keys_length);
        let mut cache = open(root.path());
        assert_eq!(held(&mut cache, 0..4), (0..expected).collect::<Vec<_>>(), "{records_length} {keys_length}");
        (0..4).for_each(|number| assert!(append(&mut cache, number)));
        drop(cache);
        let mut cache = open(root.path());
        assert_eq!(held(&mut cache, 0..4), [0, 1, 2, 3], "{records_length} {keys_length}");
        assert_eq!(cache.bytes(), HEAD_BYTES + 4 * (RECORD_BYTES + ENTRY_BYTES));
        assert!(cache.take_warnings().is_empty());
    }
}

#[test]
fn every_flipped_bit_of_a_record_is_a_miss() {
    let root = tempfile::tempdir().unwrap();
    let mut cache = open(root.path());
    append(&mut cache, 0);
    append(&mut cache, 1);
    drop(cache);
    let path = file(root.path(), "records");
    let good = fs::read(&path).unwrap();
    for bit in 0..RECORD_BYTES as usize * 8 {
        write_at(&path, bit as u64 / 8, &[good[bit / 8] ^ 1 << (bit % 8)]);
        let mut cache = open(root.path());
        assert_eq!(held(&mut cache, 0..2), [1], "bit {bit}");
        assert!(matches!(cache.take_warnings()[..], [Warning::Damaged { records: 1, .. }]));
        drop(cache);
        write_at(&path, bit as u64 / 8, &[good[bit / 8]]);
    }
}

#[test]
fn damaged_records_are_appended_again_and_then_found() {
    let root = tempfile::tempdir().unwrap();
    let mut cache = open(root.path());
    (0..3).for_each(|number| assert!(append(&mut cache, number)));
    drop(cache);
    write_at(&file(root.path(), "records"), RECORD_BYTES + 3, &[0xff]);
    // Of sample 2, the key.
    write_at(&file(root.path(), "keys"), HEAD_BYTES + 2 * ENTRY_BYTES, &[0xff; 4]);
    let mut cache = open(root.path());
    assert_eq!(held(&mut cache, 0..3), [0]);
    assert!(append(&mut cache, 1) && append(&mut cache, 2));
    assert_eq!(held(&mut cache, 0..3), [0, 1, 2]);
    drop(cache);
    assert_eq!(held(&mut open(root.path()), 0..3), [0, 1, 2]);
}

#[test]
fn keys_that_vanish_under_a_reader_are_misses() {
    let root = tempfile::tempdir().unwrap();
    let mut cache = open(root.path());
    (0..3).for_each(|number| assert!(append(&mut cache, number)));
    let mut reader = open(root.path());
    assert!(matches!(reader.take_warnings()[..], [Warning::Busy { .. }]));
    assert_eq!(held(&mut reader, 0..3), [0, 1, 2]);
    let keys = file(root.path(), "keys");
    OpenOptions::new().write(true).open(&keys).unwrap().set_len(HEAD_BYTES + 2 * ENTRY_BYTES).unwrap();
    assert_eq!(held(&mut reader, 0..3), [0, 1]);
    assert!(append(&mut reader, 2), "it goes to memory");
    assert_eq!(held(&mut reader, 0..3), [0, 1, 2]);
}

#[test]
fn keys_of_another_version_start_over() {
    let root = tempfile::tempdir().unwrap();
    append(&mut open(root.path()), 0);
    write_at(&file(root.path(), "keys"), 4, &[99]);
    let mut cache = open(root.path());
    assert!(cache.is_empty() && append(&mut cache, 1) && holds(&mut cache, 1));
    assert_eq!(cache.bytes(), HEAD_BYTES + RECORD_BYTES + ENTRY_BYTES);
}

#[test]
fn second_process_reads_what_is_there_and_keeps_its_own_in_memory() {
    let root = tempfile::tempdir().unwrap();
    let mut first = open(root.path());
    append(&mut first, 0);
    let mut second = open(root.path());
    assert!(matches!(second.take_warnings()[..], [Warning::Busy { .. }]));
    assert!(holds(&mut second, 0));
    assert!(append(&mut second, 1) && holds(&mut second, 1));
    assert!(append(&mut first, 2) && holds(&mut first, 2));
    assert!(!holds(&mut first, 1) && !holds(&mut second, 2));
    assert!(second.take_warnings().is_empty(), "told once");
    drop((first, second));
    let mut third = open(root.path());
    assert_eq!(held(&mut third, 0..3), [0, 2]);
    assert!(third.take_warnings().is_empty() && append(&mut third, 1));
}

/// What a reader has mapped stays as it was, whatever the writer finds to repair.
#[test]
fn writer_never_shortens_what_a_reader_has_open() {
    let root = tempfile::tempdir().unwrap();
    let mut writer = open(root.path());
    (0..9).for_each(|number| assert!(append(&mut writer, number)));
    let mut reader = open(root.path());
    let record = reader.get(&sample(8)).unwrap();
    drop((writer, reader));
    // The record alone still holds the file.
    let small = Limits { disk_bytes: 3 * (RECORD_BYTES + ENTRY_BYTES), ..LIMITS };
    let mut writer = Cache::open(root.path(), &BODY, &layout(), small).unwrap();
    assert!(append(&mut writer, 9));
    assert!(matches!(writer.take_warnings()[..], [Warning::LimitReached { .. }]));
    assert_eq!(record.tensor(0).as_slice::<f32>().unwrap()[0], 80.0);
    assert_eq!(fs::metadata(file(root.path(), "records")).unwrap().len(), 9 * RECORD_BYTES);
    drop((writer, record));
    let mut writer = Cache::open(root.path(), &BODY, &layout(), small).unwrap();
    assert_eq!(held(&mut writer, 0..9), [0, 1, 2]);
    assert_eq!(fs::metadata(file(root.path(), "records")).unwrap().len(), 3 * RECORD_BYTES);
}

#[test]
fn another_layout_or_body_is_another_cache() {
    let root = tempfile::tempdir().unwrap();
    let mut cache = open(root.path());
    append(&mut cache, 0);
    let others = [
        (BODY, vec![ty(DType::Float, &[5]), ty(DType::Int64, &[1, 3])]),
        (BODY, vec![ty(DType::Int32, &[5]), ty(DType::Int64, &[3, 1])]),
        (BODY, vec![ty(DType::Float, &[5])]),
        ([0xac; 32], layout()),
    ];
    for (body, layout) in others {
        let mut other = Cache::open(root.path(), &body, &layout, LIMITS).unwrap();
        assert!(other.take_warnings().is_empty());
        assert!(other.get(&sample(0)).is_none());
    }
    assert_eq!(fs::read_dir(root.path().join("features")).unwrap().count(), 5);
}

#[test]
fn limit_is_kept_and_the_rest_goes_to_memory() {
    let root = tempfile::tempdir().unwrap();
    let disk_bytes = HEAD_BYTES + 10 * (RECORD_BYTES + ENTRY_BYTES) + 5;
    let limits = Limits { disk_bytes, memory_bytes: 2 * RECORD_BYTES, ..LIMITS };
    let mut cache = Cache::open(root.path(), &BODY, &layout(), limits).unwrap();
    let kept: Vec<_> = (0..20).filter(|number| append(&mut cache, *number)).collect();
    assert_eq!(kept, (0..12).collect::<Vec<_>>(), "ten on disk, two in memory");
    assert_eq!(held(&mut cache, 0..20), kept);
    assert!(taken_bytes(root.path()) <= disk_bytes);
    let warnings = cache.take_warnings();
    assert!(matches!(warnings[..], [Warning::LimitReached { .. }, Warning::MemoryLimitReached { .. }]), "{warnings:?}");
    assert!(warnings.iter().all(|warning| warning.to_string().contains("limit")));
}

/// Of three bodies the one opened longest ago gives way, never one that somebody has open.
#[test]
fn body_used_longest_ago_gives_way() {
    let root = tempfile::tempdir().unwrap();
    let room = |bodies: u64| bodies * (HEAD_BYTES + 10 * (RECORD_BYTES + ENTRY_BYTES));
    let limits = Limits { disk_bytes: room(3), ..LIMITS };
    let open = |body: u8| Cache::open(root.path(), &[body; 32], &layout(), limits).unwrap();
    let fill = |cache: &mut Cache| (0..10).filter(|number| append(cache, *number)).count();
    for body in 1..=3 {
        assert_eq!(fill(&mut open(body)), 10);
    }
    let mut oldest = open(1);
    assert_eq!(oldest.len(), 10);
    fs::write(root.path().join("features/notes.txt"), "not ours").unwrap();
    let mut fourth = open(4);
    assert_eq!(fill(&mut fourth), 10);
    assert!(fourth.take_warnings().is_empty());
    assert!(taken_bytes(root.path()) <= limits.disk_bytes);
    assert_eq!(held(&mut oldest, 0..10).len(), 10);
    assert_eq!((open(2).len(), open(3).len()), (0, 10), "2 was used longest ago");
    assert!(root.path().join("features/notes.txt").exists());
}

#[test]
fn room_on_the_disk_is_left_to_others() {
    let root = tempfile::tempdir().unwrap();
    let limits = Limits { disk_free_bytes_min: u64::MAX, ..LIMITS };
    let mut cache = Cache::open(root.path(), &BODY, &layout(), limits).unwrap();
    assert!(append(&mut cache, 0) && append(&mut cache, 1) && holds(&mut cache, 1));
    assert!(matches!(cache.take_warnings()[..], [Warning::DiskFull { .. }]));
    assert_eq!(fs::metadata(file(root.path(), "records")).unwrap().len(), 0);
}

/// `/dev/full` is a file on a disk that is always full.
#[test]
fn full_disk_switches_writing_off_and_fails_nothing() {
    let root = tempfile::tempdir().unwrap();
    drop(open(root.path()));
    let path = file(root.path(), "records");
    fs::remove_file(&path).unwrap();
    symlink("/dev/full", &path).unwrap();
    let mut cache = open(root.path());
    assert!(append(&mut cache, 0) && append(&mut cache, 1));
    assert_eq!(held(&mut cache, 0..3), [0, 1]);
    cache.flush();
    let warnings = cache.take_warnings();
    assert!(matches!(warnings[..], [Warning::DiskFull { .. }]), "{warnings:?}");
}

#[test]
fn folder_that_cannot_be_made_is_a_warning() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    File::create(&path).unwrap();
    let mut cache = Cache::open(&path, &BODY, &layout(), LIMITS).unwrap();
    let warnings = cache.take_warnings();
    assert!(matches!(warnings[..], [Warning::Unusable { .. }]), "{warnings:?}");
    assert!(warnings[0].to_string().contains(path.to_str().unwrap()), "{}", warnings[0]);
    assert!(append(&mut cache, 0) && holds(&mut cache, 0));
}

#[test]
fn features_are_private() {
    let root = tempfile::tempdir().unwrap();
    append(&mut open(root.path()), 0);
    let folder = file(root.path(), "records").parent().unwrap().to_owned();
    assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn memory_limit_is_kept() {
    let mut cache = Cache::in_memory(&layout(), 3 * RECORD_BYTES + 1).unwrap();
    assert_eq!((0..9).filter(|number| append(&mut cache, *number)).count(), 3);
    assert_eq!((cache.len(), cache.bytes(), cache.record_bytes() as u64), (3, 3 * RECORD_BYTES, RECORD_BYTES));
    assert_eq!(held(&mut cache, 0..9), [0, 1, 2]);
    assert!(matches!(cache.take_warnings()[..], [Warning::MemoryLimitReached { .. }]));
}

#[test]
fn layouts_without_a_size_and_records_of_another_are_refused() {
    let refused = |ty: TensorType| Cache::in_memory(&[layout()[0].clone(), ty], 0).unwrap_err();
    let unknown = TensorType::new(DType::Float, vec![Dim::Named("sequence".into()), Dim::Fixed(4)]);
    for ty in [unknown, ty(DType::String, &[1]), ty(DType::Float, &[1 << 40, 1 << 40]), ty(DType::Int8, &[1 << 31])] {
        assert!(matches!(refused(ty), Error::Layout { index: 1, .. }));
    }
    let mut cache = Cache::in_memory(&layout(), 1000).unwrap();
    let error = cache.append(&sample(0), &[&[0; 20], &[0; 23]]).unwrap_err();
    assert_eq!(error, Error::Record { given: vec![20, 23], expected: vec![20, 24] });
    assert!(cache.append(&sample(0), &[&[0; 20]]).is_err());
}

#[test]
fn keys_tell_parts_apart() {
    assert_ne!(key(&[b"ab", b"c"]), key(&[b"a", b"bc"]));
    assert_ne!(key(&[b"ab"]), key(&[b"ab", b""]));
    assert_eq!(key(&[b"a"]), key(&[b"a"]));
}

#[test]
fn root_follows_the_xdg_specification() {
    let root = |xdg: Option<&str>, home: Option<&str>| root(xdg.map(OsStr::new), home.map(OsStr::new));
    assert_eq!(root(Some("/x"), Some("/home/me")), Some("/x/edgetune".into()));
    assert_eq!(root(Some("relative"), Some("/home/me")), Some("/home/me/.cache/edgetune".into()));
    assert_eq!(root(Some(""), Some("/home/me")), Some("/home/me/.cache/edgetune".into()));
    assert_eq!(root(None, None), None);
}

/// A bundle of a model in a cache, of so many bytes.
fn bundle(root: &Path, name: &str, bytes: usize) -> PathBuf {
    let folder = root.join("bundles").join(name.repeat(16));
    fs::create_dir_all(&folder).unwrap();
    drop(hold(&folder));
    fs::write(folder.join("weights.bin"), vec![0; bytes]).unwrap();
    folder
}

#[test]
fn limit_is_a_share_of_the_file_system_unless_it_is_set() {
    let root = tempfile::tempdir().unwrap();
    let default = limit(root.path());
    assert!(!default.is_set && default.bytes > 0 && default.bytes <= LIMIT_BYTES_MAX, "{default:?}");
    assert_eq!(limit(&root.path().join("not/there")), default);
    set_limit(root.path(), Some(12_345)).unwrap();
    assert_eq!((limit(root.path()).bytes, limit(root.path()).is_set), (12_345, true));
    set_limit(root.path(), None).unwrap();
    assert_eq!(limit(root.path()), default);
}

/// The oldest first, whatever it is; what is in use stays, also over the limit; what was prepared elsewhere is not looked at.
#[test]
fn bundles_give_way_too_but_not_those_in_use() {
    let root = tempfile::tempdir().unwrap();
    mark(root.path()).unwrap();
    let folders: Vec<PathBuf> = ["a", "b", "c"].iter().map(|name| bundle(root.path(), name, 1000)).collect();
    let in_use = hold(&folders[0]).expect("a bundle in a cache");
    let there = || folders.iter().map(|folder| folder.join("weights.bin").exists()).collect::<Vec<_>>();
    set_limit(root.path(), Some(3000)).unwrap();
    assert_eq!(there(), [true, true, true]);
    make_room_for_bundle(&root.path().join("bundles").join("d".repeat(16)), 1000);
    assert_eq!(there(), [true, false, true], "`a` is older, but in use");
    let limits = Limits { disk_bytes: 1000 + 2 * (RECORD_BYTES + ENTRY_BYTES) + HEAD_BYTES, ..LIMITS };
    let mut cache = Cache::open(root.path(), &BODY, &layout(), limits).unwrap();
    assert!(append(&mut cache, 1) && append(&mut cache, 2));
    assert_eq!(there(), [true, false, false], "features make room as well");
    drop(cache);
    set_limit(root.path(), Some(1)).unwrap();
    assert_eq!(there(), [true, false, false]);
    assert_eq!(taken_bytes(root.path()), 1000, "the features have gone");
    drop(in_use);
    set_limit(root.path(), Some(1)).unwrap();
    assert_eq!(taken_bytes(root.path()), 0);

    let elsewhere = tempfile::tempdir().unwrap();
    let prepared = bundle(elsewhere.path(), "e", 1000);
    assert!(hold(&prepared).is_none(), "a folder that somebody asked for is no cache");
    make_room_for_bundle(&prepared, u64::MAX);
    assert!(prepared.join("weights.bin").exists());
}
