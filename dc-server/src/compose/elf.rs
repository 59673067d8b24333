//! Whether a program runs where there is nothing else: no loader, no libraries. Reads the head of an ELF file.

/// What begins every ELF file.
const MAGIC: &[u8] = b"\x7fELF";

/// In the fifth byte: 64 bits.
const BITS_64: u8 = 2;

/// In the sixth byte: the lowest byte comes first.
const LITTLE_ENDIAN: u8 = 1;

/// A header of the program that names its loader.
const INTERPRETER: u32 = 3;

/// Returns what a program is that would not run alone; `None` for one that does.
pub fn needs_others(program: &[u8]) -> Option<&'static str> {
    if !program.starts_with(MAGIC) {
        return Some("is no program for Linux");
    }
    match names_loader(program) {
        Some(false) => None,
        Some(true) => Some("is linked dynamically"),
        None => Some("is no program that could be read"),
    }
}

/// Looks for the header that names a loader; `None` when the file makes no sense.
fn names_loader(program: &[u8]) -> Option<bool> {
    if program.get(4) != Some(&BITS_64) || program.get(5) != Some(&LITTLE_ENDIAN) {
        return None;
    }
    let start = usize::try_from(u64::from_le_bytes(take(program, 32)?)).ok()?;
    let len = usize::from(u16::from_le_bytes(take(program, 54)?));
    let count = usize::from(u16::from_le_bytes(take(program, 56)?));
    let kind = |nth: usize| {
        let at = start.checked_add(len.checked_mul(nth)?)?;
        Some(u32::from_le_bytes(take(program, at)?))
    };
    let kinds = (0..count).map(kind).collect::<Option<Vec<u32>>>()?;
    Some(kinds.contains(&INTERPRETER))
}

fn take<const LEN: usize>(program: &[u8], at: usize) -> Option<[u8; LEN]> {
    program.get(at..at.checked_add(LEN)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A program with headers of these kinds.
    fn program(kinds: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = u8::try_from(kinds.len()).unwrap();
        for kind in kinds {
            bytes.extend(kind.to_le_bytes());
            bytes.extend([0; 52]);
        }
        bytes
    }

    #[test]
    fn a_program_that_names_a_loader_does_not_run_alone() {
        assert_eq!(needs_others(&program(&[1, 2, 4])), None);
        assert_eq!(needs_others(&program(&[6, 3, 1])), Some("is linked dynamically"));
        assert_eq!(needs_others(b"#!/bin/sh\n"), Some("is no program for Linux"));
        let cut = &program(&[1, 2])[..100];
        assert_eq!(needs_others(cut), Some("is no program that could be read"));
    }

    proptest! {
        #[test]
        fn whatever_is_in_the_file_is_read(bytes: Vec<u8>) {
            let _said = needs_others(&[b"\x7fELF\x02\x01", &bytes[..]].concat());
        }
    }
}
