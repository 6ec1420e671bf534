//! Single values as an operator writes them. Each error says what to write.

use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

/// Longest path of a socket, in bytes: the kernel's address has 108, and the
/// daemon needs some for a name of its own beside it.
const MAX_SOCKET: usize = 90;

/// Longest name of a board, in bytes.
const MAX_NAME: usize = 32;

pub(super) fn name(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(good) {
        return Err(format!(
            "a board's name has 1 to {MAX_NAME} letters, digits, '.', '_' and '-'"
        ));
    }
    if text.starts_with('-') {
        return Err("a board's name does not start with a minus, which looks like an option".into());
    }
    Ok(text.to_owned())
}

pub(super) fn group(text: &str) -> Result<String, &'static str> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if text.is_empty() || text.len() > 32 || !text.bytes().all(good) {
        return Err("choose the name of a group of this system, as /etc/group has it");
    }
    Ok(text.to_owned())
}

/// A path that means the same wherever the daemon was started.
fn path(text: &str, most: usize) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err("write the whole path, from / on".into());
    }
    if text.len() > most {
        return Err(format!("the path has {} bytes: at most {most} are possible", text.len()));
    }
    if text.contains('\0') {
        return Err("a path holds no zero byte".into());
    }
    let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    if !path.components().all(plain) || text.ends_with('/') || path.file_name().is_none() {
        return Err("write the path of a file, without \"..\"".into());
    }
    Ok(path.to_owned())
}

pub(super) fn socket_path(text: &str) -> Result<PathBuf, String> {
    path(text, MAX_SOCKET)
}

pub(super) fn file_path(text: &str) -> Result<PathBuf, String> {
    path(text, 4000)
}

pub(super) fn address(text: &str) -> Result<(IpAddr, u8), String> {
    let Some((address, prefix)) = text.split_once('/') else {
        return Err("an address needs a prefix length: write it as 10.0.0.1/24".into());
    };
    let address: IpAddr = address
        .parse()
        .map_err(|_| format!("{address:?} is no IPv4 or IPv6 address: write it as 10.0.0.1/24"))?;
    if address.is_unspecified() || address.is_multicast() {
        return Err(format!("{address} cannot be the address of an interface: choose a host's"));
    }
    let longest = if address.is_ipv4() { 32 } else { 128 };
    // A sign is not a digit.
    let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
    match prefix.parse::<u8>() {
        Ok(prefix) if digits && prefix <= longest => Ok((address, prefix)),
        _ => Err(format!("the prefix length {prefix:?} is out of range: choose 0 to {longest}")),
    }
}

pub(super) fn mac(text: &str) -> Result<[u8; 6], &'static str> {
    const FORM: &str = "write a MAC address as 02:12:34:56:78:9a";
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2).ok_or(FORM)?;
        let digits = part.bytes().all(|byte| byte.is_ascii_hexdigit());
        *byte = u8::from_str_radix(part, 16).ok().filter(|_| digits).ok_or(FORM)?;
    }
    if parts.next().is_some() {
        return Err(FORM);
    }
    if mac[0] & 1 != 0 {
        return Err("this is a group address: a MAC address's first byte is even, such as 02");
    }
    if mac == [0; 6] {
        return Err("a MAC address of zeroes is none: write one as 02:12:34:56:78:9a");
    }
    Ok(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(address("10.0.0.1/24"), Ok((IpAddr::from([10, 0, 0, 1]), 24)));
        assert!(address("fd00::1/128").is_ok() && address("10.0.0.1/0").is_ok());
        for wrong in [
            "",
            "/",
            "10.0.0.1",
            "10.0.0.1/",
            "10.0.0.1/33",
            "10.0.0.1/-1",
            "10.0.0.1/+8",
            "10.0.0/8",
            "fd00::1/129",
            "ten/8",
            "0.0.0.0/0",
            "224.0.0.1/8",
            "::/0",
            "ff02::1/64",
            "10.0.0.1/8/8",
            "fe80::1%eth0/64",
            "10.0.0.1/024000",
        ] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn mac_addresses() {
        assert_eq!(mac("02:12:34:56:78:9A"), Ok([2, 0x12, 0x34, 0x56, 0x78, 0x9A]));
        for wrong in [
            "",
            "02:12:34:56:78",
            "02:12:34:56:78:9a:bc",
            "02-12-34-56-78-9a",
            "2:12:34:56:78:9a",
            "01:00:00:00:00:00",
            "00:00:00:00:00:00",
            "+2:12:34:56:78:9a",
            "02:12:34:56:78:9\u{e9}",
        ] {
            assert!(mac(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn paths() {
        assert!(socket_path("/run/virtio-phys/control.sock").is_ok());
        let long = format!("/{}", "x".repeat(MAX_SOCKET));
        for wrong in
            ["", "control.sock", "/", "/run/", "/run/../etc/x", "/run/x\0y", "./x", long.as_str()]
        {
            assert!(socket_path(wrong).is_err(), "{wrong:?}");
        }
        assert!(file_path(&long).is_ok());
    }

    #[test]
    fn names() {
        assert!(name("b0").is_ok() && name("left.card_2-a").is_ok());
        for wrong in ["", "-b0", "a b", "a/b", "\u{e9}", "a\nb", &"x".repeat(33)] {
            assert!(name(wrong).is_err(), "{wrong:?}");
        }
    }
}
