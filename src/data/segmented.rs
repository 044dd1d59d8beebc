//! Pictures with a class for each of their pixels: a folder of pictures beside a folder of masks, masks beside their pictures, or a
//! folder of masks for each class.
//!
//! A mask has its picture's size; it is cut and made as small as the picture is for the model, each pixel the nearest.

use super::classes::Names;
use super::folder::{Files, Kind};
use super::labels::{Labels, unknown_class};
use super::masks::{IGNORED_PIXEL, Masks, seen, spread};
use super::parts::is_part;
use super::{
    Dataset, Error, ImagePreprocessing, Limits, Options, ReadingReport, Samples, filesystem, foreign, image, indices,
    stated,
};
use crate::order::gathered;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What may stand behind a picture's name in that of its mask.
const ENDINGS: [&str; 12] = [
    "_mask",
    "-mask",
    ".mask",
    "_masks",
    "_seg",
    "_segmentation",
    "_label",
    "_labels",
    "_labelIds",
    "_gt",
    "_trimap",
    "_annotation",
];
/// Files that name the classes in the order of their numbers.
const NAMED_IN: [&str; 5] = ["_classes.csv", "classes.txt", "class_names.txt", "classes.json", "labels.txt"];
/// The class of a pixel that no class's mask covers.
const BACKGROUND: &str = "background";

/// Pictures and where their masks are.
#[derive(Debug)]
struct Pairs {
    pictures: Vec<PathBuf>,
    /// Masks by what they are called without folder and endings: the class that all their pixels are of where there is a folder for each,
    /// and the file.
    masks: BTreeMap<PathBuf, Vec<(Option<usize>, PathBuf)>>,
    /// Names of the folders, where there is one for each class.
    folders: Option<Vec<String>>,
    /// What is told of where masks were found.
    told: String,
}

/// Whether a folder holds pictures with masks.
pub fn holds_masks(root: &Path) -> bool {
    root.is_dir() && pairs(root).is_ok_and(|pairs| pairs.is_some())
}

/// Pictures with their masks.
///
/// # Errors
/// A picture without a mask, a mask of another size or with a class that is not among the names; each with its file.
pub(super) fn open(
    root: &Path,
    to: &ImagePreprocessing,
    options: &Options,
) -> Result<(Files, Labels, ReadingReport), Error> {
    to.validate()?;
    let Some(Pairs { pictures, mut masks, folders, told }) = pairs(root)? else {
        return Err(Error::content(
            root,
            "no pictures with masks; give a folder with the folders `images` and `masks`, whose files have the same names, or pictures \
             with NAME_mask.png beside each",
        ));
    };
    let (mut report, mut files, mut read) =
        (ReadingReport::default(), Files::default(), Masks::new(to.height, to.width));
    let names = Named::find(root, folders, options, &mut report)?;
    for picture in &pictures {
        let found = masks.remove(&key(root, picture, false)).ok_or_else(|| {
            Error::content(
                picture,
                format!("no mask of this picture; {told}, so name one after it, or remove the picture"),
            )
        })?;
        if let Err(reason) = files.push(picture, &mut Kind::Image, &options.limits) {
            report.skipped.push((picture.clone(), reason));
            continue;
        }
        read.push(&mask(picture, &found, (to, &names.places, &options.limits))?);
    }
    let left = masks.into_values().flatten().map(|(_, path)| (path, "a mask without a picture of its name".into()));
    report.skipped.extend(left);
    if files.len() == 0 {
        return Err(Error::content(root, "no picture that can be read; pictures are JPEG, PNG, WebP, BMP or GIF"));
    }
    let names = names.checked(&mut read, &files, &mut report)?;
    report.notes.push(format!("masks     {} pictures with masks: {told}; {} classes", files.len(), names.len()));
    Ok((files, Labels::Pixels { names, masks: read }, report))
}

/// What files in a folder of that name are to each other, if there are masks.
fn pairs(root: &Path) -> Result<Option<Pairs>, Error> {
    let entries = filesystem::visible(root)?;
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.into_iter().partition(|path| path.is_dir());
    let images =
        |files: Vec<PathBuf>| files.into_iter().filter(|path| filesystem::has_image_name(path)).collect::<Vec<_>>();
    if let Some((of_pictures, of_masks)) = foreign::pictures_and_masks(&folders) {
        refuse_parts_inside(of_pictures)?;
        let pictures = images(filesystem::below(of_pictures)?);
        let marks = images(filesystem::below(of_masks)?);
        let told = format!("masks are in {}", of_masks.display());
        let classes = folders_of_classes(of_pictures, of_masks)?;
        let class = |path: &Path| {
            let (names, rest) = (classes.as_ref()?, path.strip_prefix(of_masks).ok()?);
            let first = rest.components().next()?.as_os_str().to_string_lossy().into_owned();
            names.iter().position(|name| *name == first)
        };
        let mut masks: BTreeMap<PathBuf, Vec<_>> = BTreeMap::new();
        let known: BTreeSet<PathBuf> = pictures.iter().map(|path| key(of_pictures, path, false)).collect();
        for path in marks {
            let base = match (&classes, class(&path)) {
                (Some(names), Some(class)) => of_masks.join(&names[class]),
                _ => of_masks.to_path_buf(),
            };
            let found =
                [false, true].map(|ending| key(&base, &path, ending)).into_iter().find(|key| known.contains(key));
            let under = found.unwrap_or_else(|| key(&base, &path, true));
            masks
                .entry(of_pictures.strip_prefix(root).unwrap_or(of_pictures).join(under))
                .or_default()
                .push((class(&path), path));
        }
        let fits = pictures.iter().any(|path| masks.contains_key(&key(root, path, false)));
        return Ok(fits.then_some(Pairs { pictures, masks, folders: classes, told }));
    }
    let files = images(files);
    let names: BTreeSet<PathBuf> = files.iter().map(|path| key(root, path, false)).collect();
    let is_mask = |path: &PathBuf| {
        let without = key(root, path, true);
        without != key(root, path, false) && names.contains(&without)
    };
    let (marks, pictures): (Vec<PathBuf>, Vec<PathBuf>) = files.into_iter().partition(is_mask);
    let masks: BTreeMap<_, _> = gathered(marks.into_iter().map(|path| (key(root, &path, true), vec![(None, path)])));
    let told = "masks lie beside their pictures".to_string();
    Ok((!masks.is_empty()).then_some(Pairs { pictures, masks, folders: None, told }))
}

/// A file's path in a folder without its extension, and without what a mask's name ends with.
fn key(root: &Path, path: &Path, without_ending: bool) -> PathBuf {
    let inside = path.strip_prefix(root).unwrap_or(path);
    let stem = inside.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let shorter = ENDINGS.iter().find_map(|ending| stem.strip_suffix(ending)).filter(|_| without_ending);
    inside.with_file_name(shorter.unwrap_or(&stem))
}

/// The names of the folders of masks where there is one for each class: pictures lie in no such folders.
fn folders_of_classes(pictures: &Path, masks: &Path) -> Result<Option<Vec<String>>, Error> {
    let names = |folder: &Path| -> Result<(Vec<String>, bool), Error> {
        let entries = filesystem::visible(folder)?;
        let is_flat = entries.iter().any(|path| path.is_file());
        let folders = entries.into_iter().filter(|path| path.is_dir());
        Ok((folders.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect(), is_flat))
    };
    let ((of_pictures, _), (of_masks, has_files)) = (names(pictures)?, names(masks)?);
    Ok((of_pictures.is_empty() && !has_files && !of_masks.is_empty()).then_some(of_masks))
}

/// Parts of a data set inside of its folder of pictures would all be learned from.
fn refuse_parts_inside(pictures: &Path) -> Result<(), Error> {
    let folders: Vec<PathBuf> = filesystem::visible(pictures)?.into_iter().filter(|path| path.is_dir()).collect();
    match folders.iter().find(|folder| is_part(folder)) {
        Some(part) => Err(Error::content(
            part,
            "a part of a data set inside of its folder of pictures; arrange them as train/images with train/masks and test/images with \
             test/masks",
        )),
        None => Ok(()),
    }
}

/// A picture's mask as the model sees it.
fn mask(
    picture: &Path,
    found: &[(Option<usize>, PathBuf)],
    (to, places, limits): (&ImagePreprocessing, &[u8], &Limits),
) -> Result<Vec<u8>, Error> {
    let bytes = filesystem::read_limited(picture, limits).map_err(|source| Error::io(picture, source))?;
    let [width, height] = image::size(&bytes, limits).map_err(|reason| Error::content(picture, reason))?;
    let mut whole: Option<Vec<u8>> = None;
    for (class, path) in found {
        let bytes = filesystem::read_limited(path, limits).map_err(|source| Error::io(path, source))?;
        let one = indices::read(&bytes, limits).map_err(|reason| Error::content(path, reason))?;
        if (one.width, one.height) != (width, height) {
            return Err(Error::content(
                path,
                format!(
                    "a mask of {}×{} pixels, and its picture {} has {width}×{height}; give the mask the picture's size",
                    one.width,
                    one.height,
                    picture.display()
                ),
            ));
        }
        match class {
            // Of two masks of a whole picture the first is one too many for nobody to see.
            None if whole.is_some() => {
                return Err(Error::content(
                    path,
                    format!("a second mask of {}; remove one of them", picture.display()),
                ));
            }
            None => whole = Some(one.pixels),
            Some(class) => {
                let all = whole.get_or_insert_with(|| vec![places[0]; one.pixels.len()]);
                let covered = all.iter_mut().zip(one.pixels).filter(|(_, pixel)| *pixel > 0);
                covered.for_each(|(to, _)| *to = places[class + 1]);
            }
        }
    }
    let whole = whole.unwrap_or_default();
    Ok(seen(&whole, image::seen(width, height, to), (to.width, to.height)))
}

/// What is known of the classes' names.
struct Named {
    names: Option<Vec<String>>,
    /// Where there is a folder for each class: the number of the background, then of each folder.
    places: Vec<u8>,
}

impl Named {
    fn find(
        root: &Path,
        folders: Option<Vec<String>>,
        options: &Options,
        report: &mut ReadingReport,
    ) -> Result<Self, Error> {
        let Some(folders) = folders else {
            let mut names = options.classes.clone();
            if names.is_none()
                && let Some((found, path)) = names_beside(root)?
            {
                report.notes.push(format!("classes   named in {}", path.display()));
                names = Some(found);
            }
            return Ok(Self { names, places: Vec::new() });
        };
        let background = folders.iter().any(|name| name == BACKGROUND);
        let own = (!background).then(|| BACKGROUND.to_string()).into_iter().chain(folders.iter().cloned());
        let names = options.classes.clone().unwrap_or_else(|| own.collect());
        let known = Names::new(&names);
        let place = |name: &str| {
            let place = known.find(name).and_then(|place| u8::try_from(place).ok());
            place.ok_or_else(|| Error::content(root, unknown_class(name, &names)))
        };
        let places = std::iter::once(BACKGROUND).chain(folders.iter().map(String::as_str)).map(place);
        let places = places.collect::<Result<_, Error>>()?;
        drop(known);
        Ok(Self { names: Some(names), places })
    }

    /// The names, if all numbers in the masks are of one; 0 and 255 alone are two classes.
    fn checked(self, masks: &mut Masks, files: &Files, report: &mut ReadingReport) -> Result<Vec<String>, Error> {
        let used = masks.used();
        let numbers: Vec<u8> = (0..=u8::MAX).filter(|number| used[usize::from(*number)]).collect();
        let is_binary = self.names.as_ref().is_none_or(|names| names.len() == 2);
        if is_binary && matches!(numbers[..], [0, IGNORED_PIXEL] | [IGNORED_PIXEL]) {
            masks.replace(IGNORED_PIXEL, 1);
            report
                .notes
                .push("masks     hold 0 and 255 alone: 255 is class 1 here, and no pixel that does not count".into());
            return Ok(self.names.unwrap_or_else(|| vec!["0".into(), "1".into()]));
        }
        let most = numbers.iter().copied().filter(|number| *number != IGNORED_PIXEL).max().unwrap_or(0);
        let wrong = |class: &dyn Fn(u8) -> bool, problem: &dyn Fn(u8) -> String| {
            let (sample, number) = masks.first_with(class).expect("a number that is used is somewhere");
            Err(Error::content(files.paths.path(sample), problem(number)))
        };
        match self.names {
            Some(names) if usize::from(most) >= names.len() => {
                let beyond = |class: u8| class != IGNORED_PIXEL && usize::from(class) >= names.len();
                wrong(&beyond, &|number| {
                    format!(
                        "its mask has class {number}, and there are {} classes ({}); the first is 0, and 255 does not count. Correct the mask, \
                         or name all classes with setting `classes`",
                        names.len(),
                        names.join(", ")
                    )
                })
            }
            Some(names) => Ok(names),
            // A hole in the numbers is a palette's or a scale of greys that somebody made visible.
            None => match (0..most).find(|number| !used[usize::from(*number)]) {
                Some(missing) => wrong(&|class| class != IGNORED_PIXEL && class > missing, &|number| {
                    format!(
                        "its mask has class {number}, and no mask has class {missing}: are these class numbers? If so, say how many classes \
                         there are with setting `classes`, or name them in classes.txt beside the folders"
                    )
                }),
                None => Ok((0..=most).map(|number| number.to_string()).collect()),
            },
        }
    }
}

/// The names of the classes in a file beside the pictures, or in the folder above.
fn names_beside(root: &Path) -> Result<Option<(Vec<String>, PathBuf)>, Error> {
    let places = [Some(root), root.parent()].into_iter().flatten();
    for path in places.flat_map(|folder| NAMED_IN.map(|name| folder.join(name))).filter(|path| path.is_file()) {
        let found = match path.extension().is_some_and(|extension| extension == "csv") {
            true => Some(numbered_names(&path)?),
            false => stated::class_names_of(&path)?,
        };
        if let Some(names) = found {
            return Ok(Some((names, path)));
        }
    }
    Ok(None)
}

/// Names in a table of a number and a name, as Roboflow writes it beside masks.
fn numbered_names(path: &Path) -> Result<Vec<String>, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::io(path, source))?;
    let mut names = Vec::new();
    for (line, row) in (1u64..).zip(text.lines()).skip(1).filter(|(_, row)| !row.trim().is_empty()) {
        let cells =
            row.split_once(',').and_then(|(number, name)| Some((number.trim().parse::<usize>().ok()?, name.trim())));
        match cells {
            Some((number, name)) if number == names.len() => names.push(name.to_string()),
            _ => {
                let problem = format!(
                    "`{row}` is no class {} with its name; write a line such as `{}, NAME`",
                    names.len(),
                    names.len()
                );
                return Err(Error::line(path, line, problem));
            }
        }
    }
    Ok(names)
}
impl Dataset {
    /// A mask as large as a sample's picture, from one of what the model has seen of it, with its width and height; `None` where samples are no
    /// pictures.
    ///
    /// # Errors
    /// A picture that has gone or changed since it was opened.
    pub fn whole_mask(&self, sample: usize, mask: &[u8]) -> Result<Option<(Vec<u8>, u32, u32)>, Error> {
        let Samples::Images { preprocessing, limits, .. } = &self.samples else { return Ok(None) };
        let bytes = self.read(sample, limits)?;
        let failed = |reason| Error::content(self.names.file(sample), reason);
        let [width, height] = image::size(&bytes, limits).map_err(failed)?;
        let seen = image::seen(width, height, preprocessing);
        Ok(Some((spread(mask, seen, (preprocessing.width, preprocessing.height)), width, height)))
    }
}
