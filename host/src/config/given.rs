//! `${NAME}` in string values, and why none of what it brings in is ever printed.
//!
//! A value from the file is kept together with the text as it was written. Whatever prints a value that came from the environment
//! (`Debug`, an error, a warning) prints that text, so a secret can reach the place that uses it and no other.

use std::fmt;
use std::ops::Deref;

/// A value that prints as it was written in the file.
#[derive(Clone)]
pub struct Given<T> {
    value: T,
    /// The text with its `${…}`; `None` when the environment had no part in it.
    template: Option<String>,
}

impl<T> Given<T> {
    /// A value that the environment had no part in.
    pub fn plain(value: T) -> Self {
        Self { value, template: None }
    }

    /// Whether some of it came from the environment.
    pub fn is_secret(&self) -> bool {
        self.template.is_some()
    }

    /// The value itself, which may be a secret.
    pub fn into_inner(self) -> T {
        self.value
    }

    /// The same origin, another shape of the value.
    pub(crate) fn map<U>(self, shape: impl FnOnce(T) -> U) -> Given<U> {
        Given { value: shape(self.value), template: self.template }
    }

    pub(crate) fn from_template(value: T, template: &str) -> Self {
        Self { value, template: Some(template.to_owned()) }
    }
}

impl Given<String> {
    /// A URL whose query is a secret, wherever it came from: what prints it leaves the query out.
    pub(crate) fn with_hidden_query(self) -> Self {
        match (&self.template, self.value.split_once('?')) {
            (None, Some((before, _))) => Self { template: Some(format!("{before}?(hidden)")), value: self.value },
            _ => self,
        }
    }
}

impl<T> Deref for Given<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Given<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Given<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.template {
            Some(template) => template.fmt(f),
            None => self.value.fmt(f),
        }
    }
}

impl<T: fmt::Display> fmt::Display for Given<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.template {
            Some(template) => f.write_str(template),
            None => self.value.fmt(f),
        }
    }
}

/// Looks a variable up; an input, so that a test needs no process-wide state.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Puts variables in. `$${` stands for a plain `${`.
///
/// # Errors
/// A clause for each variable that is missing or badly written, never with a variable's value.
pub(crate) fn interpolate(text: &str, environment: Environment<'_>) -> Result<Given<String>, Vec<String>> {
    if !text.contains("${") {
        return Ok(Given::plain(text.to_owned()));
    }
    let (mut value, mut rest, mut used, mut problems) = (String::new(), text, false, vec![]);
    while let Some(at) = rest.find("${") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            value.push_str(before);
            value.push_str("${");
            rest = after;
            continue;
        }
        value.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            problems.push(
                "has a \"${\" without \"}\"; write \"${NAME}\" for a variable, \"$${\" for a plain \"${\"".to_owned(),
            );
            rest = "";
            break;
        };
        let well_formed = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        match environment(name) {
            _ if !well_formed => {
                problems.push(format!("names no variable with \"${{{name}}}\"; use letters, digits and _"))
            }
            Some(found) => value.push_str(&found),
            None => problems.push(format!("needs the environment variable {name}, which is not set")),
        }
        used = true;
        rest = after;
    }
    value.push_str(rest);
    match (problems.is_empty(), used) {
        (false, _) => Err(problems),
        (true, true) => Ok(Given::from_template(value, text)),
        (true, false) => Ok(Given::plain(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        (name == "SECRET").then(|| "hunter2".to_owned())
    }

    #[test]
    fn variables_are_put_in_and_never_printed() {
        let given = interpolate("a-${SECRET}-b", &environment);
        assert_eq!(format!("{given:?}"), r#"Ok("a-${SECRET}-b")"#);
        assert_eq!(given.map(|g| (g.to_string(), g.into_inner())), Ok(("a-${SECRET}-b".into(), "a-hunter2-b".into())));
    }

    #[test]
    fn a_doubled_dollar_is_a_plain_one() {
        let given = interpolate("$${SECRET} costs $5", &environment);
        assert_eq!(given.map(|g| (g.is_secret(), g.into_inner())), Ok((false, "${SECRET} costs $5".into())));
    }

    #[test]
    fn each_missing_variable_is_named() {
        let problems = interpolate("${A}${SECRET}${B}${1}${", &environment).map(Given::into_inner);
        let expected = [
            "needs the environment variable A, which is not set",
            "needs the environment variable B, which is not set",
            "names no variable with \"${1}\"; use letters, digits and _",
            "has a \"${\" without \"}\"; write \"${NAME}\" for a variable, \"$${\" for a plain \"${\"",
        ];
        assert_eq!(problems, Err(expected.map(String::from).to_vec()));
    }
}
