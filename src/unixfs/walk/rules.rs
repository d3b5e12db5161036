//! Ignore rules as Kubo takes them.
//!
//! Kubo reads `.gitignore` lines with a library of its own and holds them
//! against the bare name of each entry, not its path. So a rule with a slash
//! inside rarely matches, `!` takes back earlier rules, and the wildcards
//! `*` and `**` work, while `?` stands for itself. Brackets and braces mean
//! what they mean in regular expressions. This module turns a line into the
//! same expression; one that Kubo would drop as invalid is refused here, since
//! the files that it was to keep out would be published.

use regex::bytes::{Regex, RegexBuilder};

/// A line that is no valid rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ignore rule {0:?} is not valid")]
pub struct BadRule(pub String);

/// Rules in their order.
#[derive(Debug, Clone, Default)]
pub struct Rules(Vec<Rule>);

#[derive(Debug, Clone)]
struct Rule {
    pattern: Regex,
    /// Takes back what earlier rules matched.
    negated: bool,
}

impl Rules {
    /// Reads lines; blank ones and comments are no rules.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self, BadRule> {
        let parsed = lines.into_iter().filter_map(|line| parse(line).transpose());
        Ok(Self(parsed.collect::<Result<_, _>>()?))
    }

    /// Whether an entry of this name is left out.
    pub fn matches(&self, name: &[u8]) -> bool {
        // The last rule that matches decides.
        let hit = self.0.iter().rfind(|rule| rule.pattern.is_match(name));
        hit.is_some_and(|rule| !rule.negated)
    }
}

fn parse(line: &str) -> Result<Option<Rule>, BadRule> {
    let trimmed = line.trim_end_matches('\r');
    if trimmed.starts_with('#') {
        return Ok(None);
    }
    let text = trimmed.trim_matches(' ');
    if text.is_empty() {
        return Ok(None);
    }
    let (text, negated) = match text.strip_prefix('!') {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let text = text.strip_prefix(['#', '!']).unwrap_or(text);
    let expression = without_our_extensions(&expression(text));
    // Names are bytes; a rule with classes beyond ASCII needs the other mode.
    let compile = |unicode| RegexBuilder::new(&expression).unicode(unicode).build();
    let pattern = compile(false)
        .or_else(|_| compile(true))
        .map_err(|_| BadRule(line.to_owned()))?;
    Ok(Some(Rule { pattern, negated }))
}

/// The regular expression of a rule.
fn expression(text: &str) -> String {
    // Stands for a star that is already part of the expression.
    const STAR: &str = "#$~";
    let mut line = text.to_owned();
    if anchored_extension(text) {
        line.insert(0, '/');
    }
    line = line.replace('.', r"\.");
    if line.starts_with("/**/") {
        line.remove(0);
    }
    line = line
        .replace("/**/", "(/|/.+/)")
        .replace("**/", &format!("(|.{STAR}/)"))
        .replace("/**", &format!("(|/.{STAR})"))
        .replace(r"\*", &format!(r"\{STAR}"))
        .replace('*', "([^/]*)")
        .replace('?', r"\?")
        .replace(STAR, "*");
    let tail = if line.ends_with('/') {
        "(|.*)$"
    } else {
        "(|/.*)$"
    };
    match line.strip_prefix('/') {
        Some(rest) => format!("^(|/){rest}{tail}"),
        None => format!("^(|.*/){line}{tail}"),
    }
}

/// Makes what Go's expressions take for plain characters plain in ours too:
/// braces that count nothing, and brackets, `&` and `~` inside of classes.
fn without_our_extensions(go: &str) -> String {
    let mut out = String::with_capacity(go.len());
    let mut in_class = false;
    let mut rest = go.chars();
    while let Some(c) = rest.next() {
        let after = rest.as_str();
        match c {
            '\\' => {
                out.push(c);
                out.extend(rest.next());
                continue;
            }
            '{' if !in_class && !counts(after) => out.push('\\'),
            '[' if in_class && !after.starts_with(':') => out.push('\\'),
            '&' | '~' if in_class => out.push('\\'),
            _ => {}
        }
        out.push(c);
        if c == '[' && !in_class {
            in_class = true;
            // A closing bracket that comes first is a member of the class.
            for first in ["^", "]"] {
                if rest.as_str().starts_with(first) {
                    out.extend(rest.next());
                }
            }
        } else if c == ']' {
            in_class = false;
        }
    }
    out
}

/// Whether what follows a brace is `2}`, `2,}` or `2,3}`.
fn counts(after: &str) -> bool {
    let inside = after.split_once('}').map(|(inside, _)| inside);
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    inside.is_some_and(|inside| {
        let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
        !least.is_empty() && digits(least) && digits(most)
    })
}

/// `dir/*.ext` is taken from the root, like `/dir/*.ext`.
fn anchored_extension(text: &str) -> bool {
    let slash = |(at, _): &(usize, &str)| {
        let before = text.get(..*at).and_then(|s| s.chars().next_back());
        let after = text.get(at + 1..).unwrap_or_default();
        before.is_some_and(|c| c != '/' && c != '+') && after.contains("*.")
    };
    !text.starts_with('/') && text.match_indices('/').any(|found| slash(&found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_out(rules: &[&str], name: &str) -> bool {
        Rules::parse(rules.iter().copied())
            .unwrap()
            .matches(name.as_bytes())
    }

    #[test]
    fn wildcards_and_plain_names_match_bare_names() {
        assert!(left_out(&["*.log"], "a.log"));
        assert!(!left_out(&["*.log"], "a.logs"));
        assert!(!left_out(&["*.log"], "axlog"), "a dot is a dot");
        assert!(left_out(&["/foo"], "foo"));
        assert!(left_out(&["**/foo"], "foo"));
        assert!(left_out(&["foo/**"], "foo"));
        assert!(!left_out(&["foo"], "foobar"));
        assert!(
            !left_out(&["foo/"], "foo"),
            "a bare name has no slash at its end"
        );
        assert!(!left_out(&["dir/foo"], "foo"));
        assert!(!left_out(&["?"], "a"));
    }

    #[test]
    fn later_rules_take_back_earlier_ones() {
        assert!(!left_out(&["*", "!keep"], "keep"));
        assert!(left_out(&["*", "!keep", "keep"], "keep"));
        assert!(!left_out(&["!keep"], "keep"));
    }

    #[test]
    fn comments_blank_lines_and_carriage_returns_are_no_part_of_rules() {
        assert!(!left_out(&["# x", "", "   ", "\r"], "x"));
        assert!(left_out(&["  x  \r"], "x"));
        assert!(left_out(&[r"\#x"], "#x"));
    }

    #[test]
    fn what_is_plain_in_kubo_is_plain_here() {
        assert!(left_out(&["{a}"], "{a}"));
        assert!(!left_out(&["{a}"], "a"));
        assert!(left_out(&["a{2}"], "aa"));
        assert!(left_out(&["[[]"], "["));
        assert!(left_out(&["[]x]"], "]"));
        assert!(left_out(&["[a&&b]"], "&"));
        assert!(left_out(&["[a-c]"], "b"));
    }

    #[test]
    fn an_invalid_rule_is_refused_and_not_dropped() {
        let refused = Rules::parse(["[a"]);
        assert_eq!(refused.unwrap_err(), BadRule("[a".into()));
    }

    #[test]
    fn names_that_are_not_utf8_are_matched_as_bytes() {
        let rules = Rules::parse(["*.log"]).unwrap();
        assert!(rules.matches(b"\xff\xfe.log"));
    }
}
