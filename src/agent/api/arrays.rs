//! Arrays as a microcontroller sends them: raw numbers, or rows as JSON, which become the `.npy` file that a sample is.
//!
//! The shape is the configuration's, so the numbers alone are enough. Pure.

use super::problem::Problem;
use crate::agent::config::Kind;
use crate::data::npy_of_floats;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, StatusCode};
use serde_json::Value;

/// How a body is written, as its `content-type` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// As a file of the kind that samples are.
    File,
    /// Numbers of four bytes (`float`, little-endian), one behind the other.
    Floats,
    /// JSON: a list of numbers, or of lists.
    Json,
}

/// How a request's body is written.
pub(super) fn kind_of(request: &Request<Incoming>) -> Written {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    written(kind)
}

fn written(kind: &str) -> Written {
    match kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/octet-stream" => Written::Floats,
        "application/json" => Written::Json,
        _ => Written::File,
    }
}

/// A body as the file that a sample is.
///
/// # Errors
/// Numbers of another count than the shape has, JSON that is none.
pub(super) fn as_npy(written: Written, body: Bytes, kind: &Kind) -> Result<Bytes, Problem> {
    let Kind::Array(shape) = kind else { return Ok(body) };
    let values: Vec<f32> = match written {
        Written::File => return Ok(body),
        Written::Floats if body.starts_with(b"\x93NUMPY") => return Ok(body),
        Written::Floats if body.len().is_multiple_of(4) => {
            body.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        }
        Written::Floats => return Err(wrong(format!("{} bytes are no numbers of four bytes each", body.len()), shape)),
        Written::Json => {
            let value: Value = serde_json::from_slice(&body).map_err(|error| wrong(error.to_string(), shape))?;
            let mut values = Vec::new();
            flatten(&value, &mut values).map_err(|reason| wrong(reason, shape))?;
            values
        }
    };
    let size = shape.iter().try_fold(1u64, |size, side| size.checked_mul(*side));
    if size != Some(values.len() as u64) {
        return Err(wrong(format!("{} numbers do not fill it", values.len()), shape));
    }
    Ok(npy_of_floats(shape, &values).into())
}

fn flatten(value: &Value, into: &mut Vec<f32>) -> Result<(), String> {
    match value {
        Value::Array(rows) => rows.iter().try_for_each(|row| flatten(row, into)),
        Value::Number(number) => {
            into.push(number.as_f64().unwrap_or(f64::NAN) as f32);
            Ok(())
        }
        other => Err(format!("`{other}` is no number and no list of them")),
    }
}

fn wrong(reason: String, shape: &[u64]) -> Problem {
    let size: u64 = shape.iter().product();
    let remedy = format!("send {size} numbers, the last axis fastest, for an array of shape {shape:?} (samples.kind)");
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "body", format!("{reason}; {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_and_rows_are_the_same_array() {
        let kind = Kind::Array(vec![2, 2]);
        let floats: Vec<u8> = [1.0f32, 2.0, -3.0, 0.5].iter().flat_map(|value| value.to_le_bytes()).collect();
        let file = as_npy(Written::Floats, floats.into(), &kind).unwrap();
        for rows in ["[[1, 2], [-3, 0.5]]", "[1, 2.0, -3, 5e-1]"] {
            assert_eq!(as_npy(Written::Json, rows.into(), &kind).unwrap(), file, "{rows}");
        }
        crate::data::array(&file, &[2, 2]).unwrap();
        assert_eq!(as_npy(Written::Floats, file.clone(), &kind).unwrap(), file, "a file of NumPy's is one");
        assert_eq!(as_npy(Written::Json, "[1]".into(), &Kind::Text).unwrap(), "[1]", "a text is what it is");
    }

    #[test]
    fn numbers_of_another_count_are_refused_with_the_shape() {
        let kind = Kind::Array(vec![3]);
        for (written, body) in [
            (Written::Floats, &b"12345678"[..]),
            (Written::Floats, b"12345"),
            (Written::Json, b"[1, 2]"),
            (Written::Json, b"[1, 2, \"x\"]"),
            (Written::Json, b"{"),
        ] {
            let problem = as_npy(written, Bytes::from_static(body), &kind).unwrap_err();
            let text = serde_json::to_string(&problem).unwrap();
            assert!(text.contains("send 3 numbers") && text.contains("samples.kind"), "{text}");
        }
        assert_eq!(written("Application/JSON; charset=utf-8"), Written::Json);
        assert_eq!(written("application/x-www-form-urlencoded"), Written::File);
    }
}
