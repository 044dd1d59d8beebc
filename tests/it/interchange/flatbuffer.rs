//! Adapter files for ONNX Runtime, read as any reader of flatbuffers reads them: by the `flatbuffers` crate, whose verifier goes
//! through every table first.

use edgetune::train::onnx_adapter::encode;
use flatbuffers::{ForwardsUOffset, InvalidFlatbuffer, Table, Vector, Verifier, VerifierOptions};
use proptest::prelude::*;

type Parameters<'b> = ForwardsUOffset<Vector<'b, ForwardsUOffset<Parameter<'b>>>>;
type Named = (String, Vec<i64>, i32, Vec<u8>);

/// `table Parameter` of the schema.
struct Parameter<'b>(Table<'b>);

impl<'b> flatbuffers::Follow<'b> for Parameter<'b> {
    type Inner = Self;
    unsafe fn follow(buffer: &'b [u8], place: usize) -> Self {
        // SAFETY: the verifier has been through every table before one is followed.
        Self(unsafe { Table::new(buffer, place) })
    }
}

impl flatbuffers::Verifiable for Parameter<'_> {
    fn run_verifier(verifier: &mut Verifier, place: usize) -> Result<(), InvalidFlatbuffer> {
        let table = verifier.visit_table(place)?;
        let table = table.visit_field::<ForwardsUOffset<&str>>("name", 4, true)?;
        let table = table.visit_field::<ForwardsUOffset<Vector<i64>>>("dims", 6, true)?;
        let table = table.visit_field::<i32>("data_type", 8, true)?;
        table.visit_field::<ForwardsUOffset<Vector<u8>>>("raw_data", 10, true)?.finish();
        Ok(())
    }
}

/// `table Adapter` of the schema.
struct Adapter<'b>(Table<'b>);

impl<'b> flatbuffers::Follow<'b> for Adapter<'b> {
    type Inner = Self;
    unsafe fn follow(buffer: &'b [u8], place: usize) -> Self {
        // SAFETY: as above.
        Self(unsafe { Table::new(buffer, place) })
    }
}

impl flatbuffers::Verifiable for Adapter<'_> {
    fn run_verifier(verifier: &mut Verifier, place: usize) -> Result<(), InvalidFlatbuffer> {
        let mut table = verifier.visit_table(place)?;
        for (name, field) in [("format_version", 4), ("adapter_version", 6), ("model_version", 8)] {
            table = table.visit_field::<i32>(name, field, true)?;
        }
        table.visit_field::<Parameters>("parameters", 10, true)?.finish();
        Ok(())
    }
}

/// Reads an adapter as the `flatbuffers` crate does.
fn read(bytes: &[u8]) -> Vec<Named> {
    let limits = VerifierOptions { max_tables: 10_000, ..VerifierOptions::default() };
    assert!(flatbuffers::buffer_has_identifier(bytes, "TORT", false));
    let adapter = flatbuffers::root_with_opts::<Adapter>(&limits, bytes).unwrap();
    // SAFETY: all tables and fields have been verified, with these types.
    unsafe {
        assert_eq!(adapter.0.get::<i32>(4, None), Some(1));
        let parameters = adapter.0.get::<Parameters>(10, None).unwrap();
        let read = |parameter: Parameter| {
            let table = parameter.0;
            let data = table.get::<ForwardsUOffset<Vector<u8>>>(10, None).unwrap().bytes();
            assert_eq!((data.as_ptr() as usize - bytes.as_ptr() as usize) % 8, 0);
            (
                table.get::<ForwardsUOffset<&str>>(4, None).unwrap().to_string(),
                table.get::<ForwardsUOffset<Vector<i64>>>(6, None).unwrap().iter().collect(),
                table.get::<i32>(8, None).unwrap(),
                data.to_vec(),
            )
        };
        parameters.iter().map(read).collect()
    }
}

proptest! {
    #[test]
    fn what_is_written_is_what_flatbuffers_reads(
        tensors in prop::collection::vec(("[a-z.µ]{0,12}", prop::collection::vec(1u64..5, 0..4)), 0..20)
    ) {
        let count = |shape: &[u64]| shape.iter().product::<u64>() as usize;
        let values: Vec<Vec<f32>> =
            tensors.iter().map(|(_, shape)| (0..count(shape)).map(|value| value as f32 - 1.5).collect()).collect();
        let parameters = tensors.iter().zip(&values).map(|((name, shape), values)| {
            (name.as_str(), shape.as_slice(), values.as_slice())
        });
        let expected: Vec<Named> = parameters.clone().map(|(name, shape, values)| {
            let dims = shape.iter().map(|size| *size as i64).collect();
            (name.into(), dims, 1, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        }).collect();
        prop_assert_eq!(read(&encode(parameters)), expected);
    }
}
