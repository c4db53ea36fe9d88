//! How numbers are written: counts with thousands, bytes in binary units, shares in percent, differences in points.

/// `549,994`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut written = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            written.push(',');
        }
        written.push(digit);
    }
    written
}

/// `13.69 M`; four significant digits at most, whole numbers below ten thousand.
pub fn short_count(n: f64) -> String {
    if !n.is_finite() {
        return "—".to_owned();
    }
    if n.abs() < 10_000.0 {
        return count(n.max(0.0).round() as u64);
    }
    for (size, unit) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if n.abs() >= size {
            return format!("{} {unit}", digits(n / size, 4));
        }
    }
    digits(n, 4)
}

/// `2.10 MiB`.
pub fn bytes(n: f64) -> String {
    if !n.is_finite() {
        return "—".to_owned();
    }
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        let size = (1_u64 << shift) as f64;
        if n >= size {
            return format!("{} {unit}", digits(n / size, 3));
        }
    }
    format!("{n:.0} B")
}

/// `0.61 ms`; three significant digits.
pub fn milliseconds(ms: f64) -> String {
    if !ms.is_finite() {
        return "—".to_owned();
    }
    if ms >= 10_000.0 {
        return format!("{} s", digits(ms / 1000.0, 3));
    }
    if ms > 0.0 && ms < 0.0995 {
        return format!("{} µs", digits(ms * 1000.0, 3));
    }
    format!("{} ms", digits(ms, 3))
}

/// A share in percent: `90.4`.
pub fn percent(share: f64) -> String {
    plain(share * 100.0, 1)
}

/// What stands behind a share as its doubt, ` ±1.9`: the longer arm of its interval, which near 0 and 100 % has two lengths.
pub fn margin(share: f64, (low, high): (f64, f64)) -> String {
    format!(" ±{}", percent((share - low).max(high - share)))
}

/// A difference of shares in points, with its sign: `-1.3`, `+0.4`, `0.0`.
pub fn points(difference: f64) -> String {
    signed(difference * 100.0, 1)
}

/// A number with its sign; zero has none.
pub fn signed(value: f64, decimals: usize) -> String {
    let written = plain(value, decimals);
    if value > 0.0 && written.bytes().any(|b| (b'1'..=b'9').contains(&b)) {
        format!("+{written}")
    } else {
        written
    }
}

/// A number with so many decimals; never `-0.0`, and a dash for what is no number.
pub fn plain(value: f64, decimals: usize) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let written = format!("{value:.decimals$}");
    match written.strip_prefix('-') {
        Some(rest) if rest.bytes().all(|b| b == b'0' || b == b'.') => rest.to_owned(),
        _ => written,
    }
}

/// So many significant digits, without an exponent.
pub fn digits(value: f64, significant: usize) -> String {
    if !value.is_finite() || value == 0.0 {
        return plain(value, 0);
    }
    let before = value.abs().log10().floor() as i64 + 1;
    let decimals = (significant as i64 - before).clamp(0, 12) as usize;
    plain(value, decimals)
}

/// A loss: three decimals, fewer when it is large.
pub fn loss(value: f64) -> String {
    if value.is_finite() && value.abs() >= 100.0 {
        digits(value, 4)
    } else {
        plain(value, 3)
    }
}

/// `02:13`, or `1:02:13` from an hour on.
pub fn clock(ms: u64) -> String {
    let seconds = ms / 1000;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes:02}:{seconds:02}")
    }
}

/// How long something takes, as people say it: `40 s`, `2 min 10 s`, `3 h 5 min`.
pub fn duration(ms: f64) -> String {
    if !ms.is_finite() || ms < 0.0 {
        return "—".to_owned();
    }
    let seconds = (ms / 1000.0).round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_write_them() {
        assert_eq!(count(549_994), "549,994");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(999), "999");
        assert_eq!(short_count(13_690_000.0), "13.69 M");
        assert_eq!(short_count(9_999.0), "9,999");
        // 2.10 * 2^20 = 2202009.6
        assert_eq!(bytes(2_202_009.6), "2.10 MiB");
        assert_eq!(bytes(512.0), "512 B");
        assert_eq!(milliseconds(0.61), "0.610 ms");
        assert_eq!(milliseconds(0.05), "50.0 µs");
        assert_eq!(points(-0.0131), "-1.3");
        assert_eq!(points(-0.0001), "0.0");
        assert_eq!(points(0.004), "+0.4");
        assert_eq!(percent(0.904), "90.4");
        assert_eq!(plain(f64::NAN, 2), "nan");
        assert_eq!(clock(133_000), "02:13");
        assert_eq!(duration(130_000.0), "2 min 10 s");
    }
}
