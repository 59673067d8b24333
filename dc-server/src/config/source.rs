//! Texts to read: files in HCL or JSON, directories of them, fragments from the command line.
//!
//! A file's format is told by its ending, unless one is demanded; a file of another ending that
//! is named explicitly is looked into. A directory gives its `.hcl` and `.json` files in the
//! order of their names, and is not searched deeper. A file is bounded, so that a wrong path
//! (a disk, a log) is an error and not all of the memory.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{error::Problem, hcl};

/// Largest file that is read: configurations are a few KiB, those with many services a few MiB.
const FILE_LEN_MAX: u64 = 64 << 20;

/// The syntax of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// HCL 1.
    Hcl,
    /// JSON.
    Json,
}

impl Format {
    /// Reads the name of a format: `hcl` or `json`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "hcl" => Some(Self::Hcl),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    fn of_path(path: &Path) -> Option<Self> {
        Self::named(path.extension()?.to_str()?)
    }

    fn of_content(text: &str) -> Self {
        if text.trim_start().starts_with('{') { Self::Json } else { Self::Hcl }
    }
}

/// A text of configuration and where it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// What errors and warnings call it: its path, or the flag that it was given by.
    pub name: String,
    /// Its syntax.
    pub format: Format,
    /// Itself.
    pub body: String,
}

/// What a text says, before its keys are looked up.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Content {
    pub(super) name: String,
    pub(super) value: Value,
    pub(super) places: BTreeMap<String, hcl::Position>,
}

impl Text {
    /// Takes a text in the syntax that its name or else its content tells.
    pub(super) fn of(name: &str, body: String) -> Self {
        let format = Format::of_path(Path::new(name)).unwrap_or_else(|| Format::of_content(&body));
        Self { name: name.to_owned(), format, body }
    }

    pub(super) fn parse(&self) -> Result<Content, Problem> {
        let syntax = |place: String, message: String| Problem::Syntax { place, message };
        let (value, places) = match self.format {
            Format::Hcl => {
                let document = hcl::parse(&self.body)
                    .map_err(|e| syntax(format!("{}:{}", self.name, e.at), e.message))?;
                (document.value, document.places)
            }
            Format::Json => {
                let value: Value = serde_json::from_str(&self.body).map_err(|e| {
                    let place = format!("{}:{}:{}", self.name, e.line(), e.column());
                    let message = e.to_string();
                    let message = message.split(" at line ").next().unwrap_or_default();
                    syntax(place, message.to_owned())
                })?;
                (value, BTreeMap::new())
            }
        };
        if !value.is_object() {
            return Err(syntax(self.name.clone(), "expected an object of keys".to_owned()));
        }
        Ok(Content { name: self.name.clone(), value, places })
    }
}

/// Reads the files and directories in the order given.
pub fn read(paths: &[PathBuf], format: Option<Format>) -> Result<Vec<Text>, Problem> {
    let mut texts = Vec::new();
    for path in paths {
        let failed = |path: &Path, error: io::Error| Problem::Read {
            path: path.to_owned(),
            message: error.to_string(),
        };
        if fs::metadata(path).map_err(|e| failed(path, e))?.is_dir() {
            for file in files_of(path, format).map_err(|e| failed(path, e))? {
                texts.push(read_file(&file, format).map_err(|e| failed(&file, e))?);
            }
        } else {
            texts.push(read_file(path, format).map_err(|e| failed(path, e))?);
        }
    }
    Ok(texts)
}

fn files_of(directory: &Path, format: Option<Format>) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let wanted = format.is_some() || Format::of_path(&path).is_some();
        if wanted && fs::metadata(&path).is_ok_and(|m| m.is_file()) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_file(path: &Path, format: Option<Format>) -> io::Result<Text> {
    let mut body = String::new();
    fs::File::open(path)?.take(FILE_LEN_MAX + 1).read_to_string(&mut body)?;
    if body.len() as u64 > FILE_LEN_MAX {
        return Err(io::Error::other(format!("the file is larger than {FILE_LEN_MAX} bytes")));
    }
    let format =
        format.or_else(|| Format::of_path(path)).unwrap_or_else(|| Format::of_content(&body));
    Ok(Text { name: path.display().to_string(), format, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_gives_its_files_sorted_and_no_others() {
        let directory = tempfile::tempdir().unwrap();
        for (name, body) in [("b.hcl", "server = true"), ("a.json", "{}"), ("c.txt", "?")] {
            fs::write(directory.path().join(name), body).unwrap();
        }
        fs::create_dir(directory.path().join("d.hcl")).unwrap();
        let texts = read(&[directory.path().to_owned()], None).unwrap();
        let read: Vec<_> = texts.iter().map(|t| (t.format, t.body.as_str())).collect();
        assert_eq!(read, [(Format::Json, "{}"), (Format::Hcl, "server = true")]);
    }

    #[test]
    fn a_named_file_of_another_ending_is_looked_into() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("consul.conf");
        for (body, format) in [(" {\"a\": 1}", Format::Json), ("a = 1", Format::Hcl)] {
            fs::write(&path, body).unwrap();
            assert_eq!(read(std::slice::from_ref(&path), None).unwrap()[0].format, format);
        }
        assert_eq!(read(&[path], Some(Format::Json)).unwrap()[0].format, Format::Json);
    }

    #[test]
    fn a_missing_file_is_an_error_that_names_it() {
        let error = read(&["/nowhere/x.hcl".into()], None).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/x.hcl: "), "{error}");
    }
}
