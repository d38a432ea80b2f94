//! Writes the seeds of the corpus: the golden vectors, and inputs that were hostile to somebody once.
//!
//! ```text
//! cargo run -p picom-fuzz --example seed
//! ```

use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let vectors = include_str!("../../../picom-codec/tests/vectors/frames.txt");
    for line in vectors.lines().filter(|line| !line.starts_with('#')) {
        let mut columns = line.split(" | ");
        let (Some(name), Some(hex)) = (columns.next(), columns.next()) else {
            continue;
        };
        // Bad heads differ in a byte or two, which the fuzzer does by itself: a few are enough.
        let few = [
            "bad_metadata_deep",
            "bad_items_many",
            "bad_part_cut",
            "bad_prefix_too_long",
            "bad_over_the_limit",
        ];
        if name.starts_with("bad_") && !few.contains(&name) {
            continue;
        }
        let bytes: Vec<u8> = hex
            .split(' ')
            .filter_map(|byte| u8::from_str_radix(byte, 16).ok())
            .collect();
        seed("frames", name, &[&[0], &bytes[..]].concat())?;
    }
    // Scripts of frames: any bytes do, and longer ones go further.
    for (i, step) in [1u8, 3, 7, 11, 29, 101].into_iter().enumerate() {
        let script: Vec<u8> = (0..600u32)
            .map(|n| (n as u8).wrapping_mul(step).wrapping_add((n / 7) as u8))
            .collect();
        seed(
            "frames",
            &format!("script_{i}"),
            &[&[1 + 2 * i as u8], &script[..]].concat(),
        )?;
    }
    seed("frames", "http", b"\x00GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    seed(
        "frames",
        "tls",
        b"\x00\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
    )?;
    seed("frames", "empty_frames", &[0; 20])?;

    for (name, bytes) in values() {
        seed("values", name, &bytes)?;
        // The widest limits there are.
        seed("scan", name, &[&[64, 255], &bytes[..]].concat())?;
    }
    seed(
        "scan",
        "tight_limits",
        &[2, 0, 0x93, 0x92, 0x01, 0x02, 0x81, 0x03, 0x91, 0x04, 0xc0],
    )?;
    Ok(())
}

fn values() -> Vec<(&'static str, Vec<u8>)> {
    let bomb = [0xdd, 0xff, 0xff, 0xff, 0xff];
    let deepest = |level: &[u8], levels: usize, leaf: &[u8]| [level.repeat(levels), leaf.to_vec()].concat();
    vec![
        ("nil", vec![0xc0]),
        ("reserved", vec![0xc1]),
        ("nothing", vec![]),
        ("trailing", vec![0xc0, 0xc0]),
        ("numbers", b"\x98\x00\x7f\xcc\xff\xcd\xff\xff\xce\xff\xff\xff\xff\xe0\xd0\x80\xd3\x80\0\0\0\0\0\0\0".to_vec()),
        ("floats", b"\x93\xca\x7f\xc0\0\x01\xcb\x7f\xf8\0\0\0\0\0\x01\xcb\x80\0\0\0\0\0\0\0".to_vec()),
        ("texts", b"\x93\xa0\xd9\x02hi\xda\x00\x02\xc3\xa4".to_vec()),
        ("not_utf8", b"\x92\xa2\xc3\x28\xc4\x02\xc3\x28".to_vec()),
        ("ext", b"\x94\xd4\x05\x01\xd6\xff\0\0\0\x07\xc7\x00\x05\xc8\x00\x01\x7f\x09".to_vec()),
        ("bomb", bomb.to_vec()),
        ("bombs_nested", bomb.repeat(100)),
        ("bomb_of_maps", vec![0xdf, 0xff, 0xff, 0xff, 0xff]),
        ("bomb_of_bytes", vec![0xc6, 0xff, 0xff, 0xff, 0xff]),
        ("arrays_64", deepest(&[0x91], 63, &[0x90])),
        ("arrays_65", deepest(&[0x91], 64, &[0x90])),
        ("maps_64", deepest(&[0x81, 0x01], 63, &[0x80])),
        ("expr", b"\x81\xa3Neg\x81\xa3Sum\x92\xa7Nothing\x81\xa3Lit\xff".to_vec()),
        ("expr_deep", deepest(b"\x81\xa3Neg", 70, &[0x81, 0x01, 0x07])),
        ("expr_by_index", b"\x81\x04\x92\x00\xc4\x02hi".to_vec()),
        ("expr_named", b"\x81\xa5Named\x82\xa4left\x81\xa3Lit\x01\xa4text\xa1x".to_vec()),
        ("plain_map", b"\x86\xa2id\x07\xa4name\xa3Ada\xa4tags\x91\xa1x\xa5score\xc0\xa6octets\xc4\x01\x09\xa4pair\x92\xff\xa1c".to_vec()),
        ("plain_array", b"\x96\x07\xa3Ada\x91\xa1x\xcb\x3f\xf8\0\0\0\0\0\0\x92\x01\xcc\xff\x92\xff\xa1c".to_vec()),
        ("plain_spare_field", b"\x82\xa3new\x92\x01\x81\x02\x03\xa2id\x07".to_vec()),
        ("tagged", b"\x82\xa4type\xa4Blob\xa4blob\xc4\x03abc".to_vec()),
        ("untagged", b"\x93\x01\xa1x\x81\xa1k\x92\x02\xa1y".to_vec()),
        ("flat", b"\x83\xa2id\x01\xa1a\x02\xa1b\xc4\x01\x03".to_vec()),
        ("huge", b"\x93\xc4\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x05\xca\x3f\x80\0\0".to_vec()),
    ]
}

fn seed(target: &str, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), bytes)
}
