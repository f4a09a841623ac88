//! A point in time as a chat template sees it. It comes from the caller, so that rendering is a
//! function of its inputs.

use std::fmt::Write;

/// Local date and time of the proleptic Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// Year, such as 2025.
    pub year: i32,
    /// Month, 1 to 12.
    pub month: u32,
    /// Day of the month, from 1.
    pub day: u32,
    /// Hour, 0 to 23.
    pub hour: u32,
    /// Minute.
    pub minute: u32,
    /// Second.
    pub second: u32,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const DAYS_BEFORE_MONTH: [u32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

impl Date {
    /// Midnight of a day.
    pub fn new(year: i32, month: u32, day: u32) -> Date {
        Date { year, month, day, hour: 0, minute: 0, second: 0 }
    }

    /// The moment so many seconds after the start of 1970.
    pub fn from_unix(seconds: i64) -> Date {
        let (mut days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400) as u32);
        // Years of 365.2425 days, counted from 1 March of year 0, so that the leap day ends a year.
        days += 719_468;
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u32;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 } as u32;
        let year = (year_of_era + era * 400 + i64::from(month <= 2)) as i32;
        Date { year, month, day, hour: rest / 3600, minute: rest / 60 % 60, second: rest % 60 }
    }

    fn is_leap(self) -> bool {
        self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0)
    }

    fn month_index(self) -> usize {
        (self.month.clamp(1, 12) - 1) as usize
    }

    /// Day of the year, from 1.
    fn day_of_year(self) -> u32 {
        DAYS_BEFORE_MONTH[self.month_index()] + self.day + u32::from(self.month > 2 && self.is_leap())
    }

    /// Day of the week, Monday being 0.
    fn weekday(self) -> usize {
        let before = i64::from(self.year) - 1;
        let leap_days = before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400);
        (before * 365 + leap_days + i64::from(self.day_of_year()) - 1).rem_euclid(7) as usize
    }

    /// The date in C's `strftime` notation; `None` for a conversion that is not known.
    pub fn format(self, format: &str) -> Option<String> {
        let mut out = String::with_capacity(format.len() + 16);
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut conversion = chars.next()?;
            let padded = conversion != '-';
            if !padded {
                conversion = chars.next()?;
            }
            self.convert(conversion, padded, &mut out)?;
        }
        Some(out)
    }

    fn convert(self, conversion: char, padded: bool, out: &mut String) -> Option<()> {
        let (month, weekday) = (MONTHS[self.month_index()], WEEKDAYS[self.weekday()]);
        let (value, width) = match conversion {
            'd' => (self.day, 2),
            'm' => (self.month, 2),
            'y' => (self.year.rem_euclid(100) as u32, 2),
            'H' => (self.hour, 2),
            'I' => ((self.hour + 11) % 12 + 1, 2),
            'M' => (self.minute, 2),
            'S' => (self.second, 2),
            'j' => (self.day_of_year(), 3),
            'u' => (self.weekday() as u32 + 1, 1),
            'w' => ((self.weekday() as u32 + 1) % 7, 1),
            other => {
                match other {
                    'Y' => out.push_str(&self.year.to_string()),
                    'B' => out.push_str(month),
                    'b' | 'h' => out.push_str(&month[..3]),
                    'A' => out.push_str(weekday),
                    'a' => out.push_str(&weekday[..3]),
                    'p' => out.push_str(if self.hour < 12 { "AM" } else { "PM" }),
                    'e' if padded => write!(out, "{:2}", self.day).ok()?,
                    'F' => out.push_str(&self.format("%Y-%m-%d")?),
                    'T' => out.push_str(&self.format("%H:%M:%S")?),
                    '%' => out.push('%'),
                    _ => return None,
                }
                return Some(());
            }
        };
        let width = if padded { width } else { 1 };
        write!(out, "{value:0width$}").ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_as_strftime_does() {
        let date = Date { year: 2024, month: 7, day: 4, hour: 15, minute: 5, second: 9 };
        let all = "%Y-%m-%d %y %B %b %A %a %H:%M:%S %I %p %j %-d %-m %u %w %%";
        let expected = "2024-07-04 24 July Jul Thursday Thu 15:05:09 03 PM 186 4 7 4 4 %";
        assert_eq!(date.format(all).as_deref(), Some(expected));
        assert_eq!(Date::new(2000, 1, 1).format("%A %d %b %Y").as_deref(), Some("Saturday 01 Jan 2000"));
        assert_eq!(date.format("%Q"), None);
        assert_eq!(date.format("%"), None);
    }

    #[test]
    fn seconds_become_dates() {
        assert_eq!(Date::from_unix(0), Date::new(1970, 1, 1));
        assert_eq!(Date::from_unix(951_782_400), Date::new(2000, 2, 29));
        let late = Date { year: 2038, month: 1, day: 19, hour: 3, minute: 14, second: 7 };
        assert_eq!(Date::from_unix(2_147_483_647), late);
        assert_eq!(Date::from_unix(-1).format("%F %T").as_deref(), Some("1969-12-31 23:59:59"));
    }
}
