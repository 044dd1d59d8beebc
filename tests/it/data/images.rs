//! Photographs: what is made of them, and what is refused.

use super::{folder, refusal};
use edgetune::data::{
    Channels, Dataset, Error, Filter, ImagePreprocessing, Labels, Layout, Limits, Options, Preprocessing, Target,
    parse_scale, split,
};
use std::fs;
use std::path::{Path, PathBuf};

const MOSAIC: &[u8] = include_bytes!("../../goldens/images/mosaic.png");
const MOSAIC_JPEG: &[u8] = include_bytes!("../../goldens/images/mosaic.jpg");
const MOSAIC_TURNED: &[u8] = include_bytes!("../../goldens/images/mosaic-turned.jpg");
const SMALL_PNG: &[u8] = include_bytes!("../../goldens/images/small.png");
const SMALL_BMP: &[u8] = include_bytes!("../../goldens/images/small.bmp");
const SMALL_GIF: &[u8] = include_bytes!("../../goldens/images/small.gif");
const SMALL_TIFF: &[u8] = include_bytes!("../../goldens/images/small.tif");
const SMALL_WEBP: &[u8] = include_bytes!("../../goldens/images/small.webp");

/// Pixels as they are, so that tests can compare 8-bit values.
fn raw(width: u32, height: u32) -> ImagePreprocessing {
    ImagePreprocessing { scale: 1.0, ..ImagePreprocessing::new(width, height) }
}

fn images(preprocessing: ImagePreprocessing) -> Options {
    Options { preprocessing: Preprocessing::Image(preprocessing), ..Options::default() }
}

fn load_one(bytes: &[u8], preprocessing: ImagePreprocessing) -> Vec<f32> {
    let root = folder(&[("a/one", bytes)]);
    let (data, report) = Dataset::open(root.path(), &images(preprocessing)).unwrap();
    assert!(report.skipped.is_empty(), "{report:?}");
    data.load(0).unwrap()[0].1.to_f32().unwrap()
}

/// A 1×1 PNG whose header claims other sizes.
fn png_claiming(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = MOSAIC.to_vec();
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// The checksum of a PNG chunk (PNG specification, annex D).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

/// The file with other bytes in place of its pixels, under a checksum that fits.
fn png_of_noise() -> Vec<u8> {
    let start = MOSAIC.windows(4).position(|name| name == b"IDAT").unwrap();
    let length = u32::from_be_bytes(MOSAIC[start - 4..start].try_into().unwrap()) as usize;
    let mut bytes = MOSAIC.to_vec();
    bytes[start + 4..start + 4 + length].fill(0xa5);
    let crc = crc32(&bytes[start..start + 4 + length]);
    bytes[start + 4 + length..start + 8 + length].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[test]
fn images_match_pillow() {
    let rgb = |size: u32, resize: u32| ImagePreprocessing { resize, layout: Layout::Nhwc, ..raw(size, size) };
    let grey = ImagePreprocessing { channels: Channels::Grey, ..rgb(48, 48) };
    let by = |filter, width, height, resize| ImagePreprocessing {
        filter,
        resize,
        layout: Layout::Nhwc,
        ..raw(width, height)
    };
    let filters = [Filter::Nearest, Filter::Area, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos];
    let mut cases: Vec<(String, &[u8], ImagePreprocessing)> = [
        ("down.bin", MOSAIC, rgb(48, 48)),
        ("down-margin.bin", MOSAIC, rgb(48, 56)),
        ("up.bin", MOSAIC, rgb(64, 130)),
        ("jpeg.bin", MOSAIC_JPEG, rgb(48, 48)),
        ("grey.bin", MOSAIC, grey),
        ("grey.bin", MOSAIC, ImagePreprocessing { layout: Layout::Nchw, ..grey }),
        ("small-gif.bin", SMALL_GIF, ImagePreprocessing { layout: Layout::Nhwc, ..raw(48, 32) }),
    ]
    .map(|(golden, bytes, preprocessing)| (golden.to_string(), bytes, preprocessing))
    .into();
    for filter in filters {
        cases.push((format!("{}-down.bin", filter.name()), MOSAIC, by(filter, 24, 20, 27)));
        cases.push((format!("{}-up.bin", filter.name()), MOSAIC, by(filter, 40, 32, 130)));
    }
    for (golden, bytes, preprocessing) in cases {
        let expected =
            fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/images").join(&golden)).unwrap();
        let values = load_one(bytes, preprocessing);
        assert_eq!(values.len(), expected.len(), "{golden}");
        let worst =
            values.iter().zip(&expected).map(|(is, should)| (is - f32::from(*should)).abs()).fold(0.0, f32::max);
        // Decoders of JPEG differ among each other.
        let allowed = if golden == "jpeg.bin" { 2.0 } else { 1.0 };
        assert!(worst <= allowed, "{golden}: off by {worst} of 255");
    }
}

#[test]
fn each_format_gives_the_same_pixels() {
    let expected = load_one(SMALL_PNG, raw(48, 32));
    for (format, bytes) in [("BMP", SMALL_BMP), ("TIFF", SMALL_TIFF), ("WebP", SMALL_WEBP)] {
        assert_eq!(load_one(bytes, raw(48, 32)), expected, "{format}");
    }
}

#[test]
fn photographs_are_turned_upright() {
    let upright = load_one(MOSAIC_JPEG, raw(48, 48));
    let turned = load_one(MOSAIC_TURNED, raw(48, 48));
    let mean = upright.iter().zip(&turned).map(|(one, other)| (one - other).abs()).sum::<f32>() / upright.len() as f32;
    assert!(mean < 2.0, "differs by {mean} of 255 on average");
}

#[test]
fn a_folder_a_class() {
    let root = folder(&[
        ("dog/2.png", MOSAIC),
        ("dog/10.JPG", MOSAIC_JPEG),
        ("cat/b", MOSAIC),
        ("cat/.hidden", b""),
        (".git/config", b""),
    ]);
    let options = Options { inputs: vec![("input".into(), edgetune::graph::DType::Float)], ..images(raw(24, 16)) };
    let (data, report) = Dataset::open(root.path(), &options).unwrap();
    assert!(report.skipped.is_empty(), "{report:?}");
    let below = |name: String| name.strip_prefix(root.path().to_str().unwrap()).unwrap().to_string();
    let names: Vec<String> = (0..3).map(|i| below(data.name(i))).collect();
    assert_eq!(names, ["/cat/b", "/dog/10.JPG", "/dog/2.png"]);
    assert_eq!(data.labels(), &Labels::Classes { names: vec!["cat".into(), "dog".into()], index: vec![0, 1, 1] });
    assert!(data.key(0) == data.key(2) && data.key(0) != data.key(1));
    let loaded = data.load(1).unwrap();
    assert_eq!((loaded[0].0.as_str(), loaded[0].1.shape.as_slice()), ("input", &[3, 16, 24][..]));
}

#[test]
fn samples_load_from_several_threads() {
    let root = folder(&[("a/1.png", MOSAIC), ("b/2.jpg", MOSAIC_JPEG)]);
    let (data, _) = Dataset::open(root.path(), &images(raw(32, 32))).unwrap();
    let alone: Vec<_> = (0..2).map(|i| data.load(i).unwrap()).collect();
    std::thread::scope(|scope| {
        let data = &data;
        let loads: Vec<_> = (0..4).map(|i| scope.spawn(move || data.load(i % 2).unwrap())).collect();
        for (i, load) in loads.into_iter().enumerate() {
            assert_eq!(load.join().unwrap(), alone[i % 2]);
        }
    });
}

#[test]
fn damaged_and_foreign_files_are_listed() {
    let bomb = png_claiming(60_000, 60_000);
    let wide = png_claiming(16_000, 16_000);
    let root = folder(&[
        ("a/1.png", MOSAIC),
        ("a/bomb.png", &bomb),
        ("a/cut.png", &MOSAIC[..20]),
        ("a/deep/er/2.png", MOSAIC),
        ("a/empty.jpg", b""),
        ("a/half.jpg", &MOSAIC_JPEG[..MOSAIC_JPEG.len() / 2]),
        ("a/half.png", &MOSAIC[..MOSAIC.len() / 2]),
        ("a/half.bmp", &SMALL_BMP[..SMALL_BMP.len() / 2]),
        ("a/half.gif", &SMALL_GIF[..SMALL_GIF.len() / 2]),
        ("a/half.tiff", &SMALL_TIFF[..SMALL_TIFF.len() / 2]),
        ("a/half.webp", &SMALL_WEBP[..SMALL_WEBP.len() / 2]),
        ("a/iphone.HEIC", b"\0\0\0\x24ftypmif1\0\0\0\0mif1heicMiHBmiaf"),
        ("a/notes.txt", b"hello"),
        ("a/scan.tif", b"II*\0\x08\0\0\0"),
        ("a/wide.png", &wide),
        ("readme.txt", b"hello"),
    ]);
    let (data, report) = Dataset::open(root.path(), &images(raw(32, 32))).unwrap();
    assert_eq!(data.len(), 2, "a class's folder may hold folders");
    assert!(data.name(1).ends_with("a/deep/er/2.png"));
    let skipped: Vec<(String, &str)> = report
        .skipped
        .iter()
        .map(|(path, reason)| (path.strip_prefix(root.path()).unwrap().display().to_string(), reason.as_str()))
        .collect();
    let expected = [
        ("readme.txt", "not in a class folder"),
        ("a/bomb.png", ""),
        ("a/cut.png", ""),
        ("a/empty.jpg", "not an image"),
        ("a/half.bmp", "the BMP file ends early"),
        ("a/half.gif", "the GIF file ends early"),
        ("a/half.jpg", "the JPEG file ends early"),
        ("a/half.png", "the PNG file ends early"),
        ("a/half.tiff", "the TIFF file ends early"),
        ("a/half.webp", "the WebP file ends early"),
        ("a/iphone.HEIC", "set the camera to Most Compatible"),
        ("a/notes.txt", "not an image"),
        ("a/scan.tif", "the TIFF file ends early"),
        ("a/wide.png", ""),
    ];
    assert_eq!(skipped.len(), expected.len(), "{skipped:?}");
    for ((path, reason), (expected_path, part)) in skipped.iter().zip(expected) {
        assert!(path == expected_path && reason.contains(part) && !reason.is_empty(), "{path}: {reason}");
    }
}

/// Folders and files that nobody has put there ended a training, or became a class.
#[test]
fn what_systems_leave_in_folders_is_no_sample_and_no_class() {
    let root = folder(&[
        ("__MACOSX/a/._1.png", b"resource fork"),
        ("@eaDir/a/1.png", SMALL_PNG),
        ("System Volume Information/x.png", b""),
        ("Thumbs.db", b"previews"),
        ("desktop.ini", b"[.ShellClassInfo]"),
        (".DS_Store", b"places"),
        ("a/1.png", SMALL_PNG),
        ("a/.DS_Store", b"places"),
        ("a/Thumbs.db", b"previews"),
        ("a/@eaDir/1.png/SYNOPHOTO_THUMB_M.png", SMALL_PNG),
        ("b/2.png", MOSAIC),
        ("b/desktop.ini", b"[.ShellClassInfo]"),
    ]);
    let (data, report) = Dataset::open(root.path(), &images(raw(32, 32))).unwrap();
    assert_eq!((data.len(), data.labels().names()), (2, &["a".to_string(), "b".into()][..]));
    assert_eq!(report.skipped, []);
    let (data, report) = Dataset::open_unlabelled(&[root.path().into()], &images(raw(32, 32))).unwrap();
    assert_eq!((data.len(), report.skipped), (2, vec![]));
}

#[test]
fn size_limits_hold() {
    let root = folder(&[("a/1.png", MOSAIC), ("a/2.jpg", MOSAIC_JPEG)]);
    let small = Limits { file_bytes_max: MOSAIC_JPEG.len() as u64, ..Limits::default() };
    let (data, report) = Dataset::open(root.path(), &Options { limits: small, ..images(raw(8, 8)) }).unwrap();
    assert_eq!((data.len(), report.skipped.len()), (1, 1));
    for limits in [
        Limits { side_max: 159, ..Limits::default() },
        Limits { decoded_bytes_max: 160 * 96 * 3 - 1, ..Limits::default() },
    ] {
        let message = refusal(root.path(), &Options { limits, ..images(raw(8, 8)) });
        assert!(message.contains("(2 skipped)"), "{message}");
    }
}

#[test]
fn pixels_that_cannot_be_decoded_name_their_file() {
    let root = folder(&[("a/1.png", MOSAIC), ("a/noise.png", &png_of_noise())]);
    let (data, report) = Dataset::open(root.path(), &images(raw(32, 32))).unwrap();
    assert_eq!((data.len(), report.skipped.len()), (2, 0), "all of the file is there, so opening cannot know");
    let message = data.load(1).unwrap_err().to_string();
    assert!(message.contains("noise.png: cannot be decoded"), "{message}");
}

#[test]
fn files_that_change_or_vanish_are_noticed() {
    let root = folder(&[("a/1.png", MOSAIC), ("a/2.png", MOSAIC)]);
    let (data, _) = Dataset::open(root.path(), &images(raw(32, 32))).unwrap();
    fs::write(root.path().join("a/1.png"), MOSAIC_JPEG).unwrap();
    fs::remove_file(root.path().join("a/2.png")).unwrap();
    assert!(data.load(0).unwrap_err().to_string().contains("1.png: changed"));
    assert!(matches!(data.load(1).unwrap_err(), Error::Io { .. }));
}

#[test]
fn folders_that_are_no_data_set_are_refused() {
    let options = images(raw(32, 32));
    let flat = folder(&[("1.png", MOSAIC)]);
    assert!(refusal(flat.path(), &options).contains("1.png: an image outside of any class folder"));
    let nothing = folder(&[]);
    assert!(refusal(nothing.path(), &options).contains("no class folders"));
    let parts = folder(&[("train/a/1.png", MOSAIC), ("test/a/1.png", MOSAIC)]);
    let message = refusal(parts.path(), &options);
    assert!(message.contains("parts of a data set") && message.contains("/test"), "{message}");
    let hollow = folder(&[("a/1.png", MOSAIC), ("b/.keep", b"")]);
    let message = refusal(hollow.path(), &options);
    assert!(message.contains("/b: class folder without a usable image (0 skipped)"), "{message}");
    let broken = folder(&[("a/1.png", MOSAIC), ("b/1.png", b"oops")]);
    assert!(refusal(broken.path(), &options).contains("/b: class folder without a usable image (1 skipped)"));
    assert!(matches!(Dataset::open(Path::new("/no/such/folder"), &options).unwrap_err(), Error::Io { .. }));
    let good = folder(&[("a/1.png", MOSAIC)]);
    assert!(refusal(good.path(), &Options::default()).contains("image size"));
    assert!(refusal(good.path(), &images(ImagePreprocessing { resize: 8, ..raw(32, 32) })).contains("`resize`"));
}

#[test]
fn expected_classes_rule() {
    let root = folder(&[("cat/1.png", MOSAIC), ("dog/1.png", MOSAIC)]);
    let with = |names: &[&str]| Options {
        classes: Some(names.iter().map(|name| name.to_string()).collect()),
        ..images(raw(32, 32))
    };
    let (data, _) = Dataset::open(root.path(), &with(&["dog", "bird", "cat"])).unwrap();
    let Labels::Classes { names, index } = data.labels() else { panic!() };
    assert_eq!((names.join(" ").as_str(), index.as_slice()), ("dog bird cat", &[2, 0][..]));
    let message = refusal(root.path(), &with(&["cat", "bird"]));
    assert!(message.contains("class `dog` is not among the model's 2 classes (cat, bird)"), "{message}");
}

#[test]
fn unlabelled_images_keep_the_callers_order() {
    let root = folder(&[("x/2.png", MOSAIC), ("x/y/1.jpg", MOSAIC_JPEG), ("x/bad.png", b"?"), ("0.png", MOSAIC)]);
    let paths: Vec<PathBuf> = ["x", "0.png"].iter().map(|name| root.path().join(name)).collect();
    let (data, report) = Dataset::open_unlabelled(&paths, &images(raw(32, 32))).unwrap();
    let last = |name: String| name.rsplit('/').next().unwrap().to_string();
    let names: Vec<String> = (0..data.len()).map(|i| last(data.name(i))).collect();
    assert_eq!(names, ["2.png", "1.jpg", "0.png"]);
    assert_eq!(data.labels(), &Labels::Unlabelled(3));
    assert_eq!(report.skipped.len(), 1);
    let missing = Dataset::open_unlabelled(&[root.path().join("nope.png")], &images(raw(32, 32)));
    assert!(matches!(missing.unwrap_err(), Error::Io { .. }));
    assert!(Dataset::open_unlabelled(&[root.path().join("x/bad.png")], &images(raw(32, 32))).is_err());
    assert!(Dataset::open_unlabelled(&[], &images(raw(32, 32))).is_err());
}

#[test]
fn the_shipped_photographs_open_and_split() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/cifar10");
    let preprocessing = ImagePreprocessing {
        scale: parse_scale("1/255").unwrap(),
        mean: [127.0 / 255.0; 3],
        std: [128.0 / 255.0; 3],
        ..ImagePreprocessing::new(224, 224)
    };
    let (train, report) = Dataset::open(&root.join("train"), &images(preprocessing)).unwrap();
    assert!(report.skipped.is_empty() && train.len() == 1000 && train.labels().names().len() == 10);
    let parts = split(train.labels(), train.keys(), 0.2, 1).unwrap();
    assert_eq!((parts.train.len(), parts.validation.len()), (800, 200));
    let values = train.load(999).unwrap()[0].1.to_f32().unwrap();
    assert_eq!(values.len(), 3 * 224 * 224);
    assert!(values.iter().all(|value| (-0.9922..=1.0).contains(value)));
}

#[test]
fn a_table_can_name_images() {
    let table = b"file,label\na/1.png,red;wet\na/none.png,dry\na/2.jpg,[]\n";
    let root = folder(&[("set.csv", table), ("a/1.png", MOSAIC), ("a/2.jpg", MOSAIC_JPEG)]);
    let options = Options { target: Target::MultiLabel, ..images(raw(32, 32)) };
    let (data, report) = Dataset::open(&root.path().join("set.csv"), &options).unwrap();
    let rows = ndarray::arr2(&[[1.0, 1.0], [0.0, 0.0]]);
    assert_eq!(data.labels(), &Labels::MultiLabel { names: vec!["red".into(), "wet".into()], rows });
    assert_eq!(report.skipped.len(), 1);
    assert!(report.skipped[0].0.ends_with("a/none.png"));
    assert_eq!(data.load(1).unwrap()[0].1.shape, [3, 32, 32]);
    let nameless = folder(&[("set.csv", b"x,label\n1,a\n")]);
    assert!(refusal(&nameless.path().join("set.csv"), &images(raw(32, 32))).contains("column `file`"));
    let dead = folder(&[("set.csv", b"file,label\nno.png,a\n")]);
    assert!(refusal(&dead.path().join("set.csv"), &images(raw(32, 32))).contains("none of the 1 images"));
    assert!(refusal(&root.path().join("a/1.png"), &images(raw(32, 32))).contains("no label of its own"));
}
