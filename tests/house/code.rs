//! Source text as tokens and paths: just enough of Rust's surface to see what
//! a file imports and calls. Comments vanish, literals become placeholders.

/// One token that matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A word: identifier, keyword or number.
    Word(String),
    /// `::`.
    PathSeparator,
    /// A string, character or lifetime; nothing inside it is code.
    Literal,
    /// Any other character.
    Mark(char),
}

/// A token and the line it starts on, counted from 1.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) line: usize,
}

impl Token {
    fn is(&self, mark: char) -> bool {
        self.kind == Kind::Mark(mark)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(&self.kind, Kind::Word(own) if own == word)
    }
}

/// A path as written, groups expanded: `a::{b, c::*}` is `a::b` and `a::c::*`.
#[derive(Debug, Clone)]
pub(crate) struct CodePath {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    /// How many inline modules (`mod x { .. }`) surround it.
    pub(crate) inline_depth: usize,
    /// Followed by `!`: the name of a macro that is called.
    pub(crate) is_macro: bool,
}

struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    line: usize,
    tokens: Vec<Token>,
}

/// The tokens of a file.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { rest: text.chars().peekable(), line: 1, tokens: Vec::new() };
    while let Some(first) = lexer.next() {
        lexer.token(first);
    }
    lexer.tokens
}

impl Lexer<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.line += usize::from(next == Some('\n'));
        next
    }

    fn next_if(&mut self, wanted: char) -> bool {
        self.rest.peek() == Some(&wanted) && self.next().is_some()
    }

    fn push(&mut self, kind: Kind, line: usize) {
        self.tokens.push(Token { kind, line });
    }

    fn token(&mut self, first: char) {
        let line = self.line;
        match first {
            '/' if self.next_if('/') => while self.next().is_some_and(|next| next != '\n') {},
            '/' if self.next_if('*') => self.block_comment(),
            '"' => {
                self.string();
                self.push(Kind::Literal, line);
            }
            '\'' => {
                self.character_or_lifetime();
                self.push(Kind::Literal, line);
            }
            ':' if self.next_if(':') => self.push(Kind::PathSeparator, line),
            _ if first.is_whitespace() => {}
            _ if first == '_' || first.is_alphanumeric() => self.word(first, line),
            _ => self.push(Kind::Mark(first), line),
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 1;
        while depth > 0 {
            match self.next() {
                Some('*') if self.next_if('/') => depth -= 1,
                Some('/') if self.next_if('*') => depth += 1,
                Some(_) => {}
                None => return,
            }
        }
    }

    fn string(&mut self) {
        while let Some(next) = self.next() {
            match next {
                '\\' => drop(self.next()),
                '"' => return,
                _ => {}
            }
        }
    }

    fn raw_string(&mut self, hashes: usize) {
        while let Some(next) = self.next() {
            if next == '"' && (0..hashes).all(|_| self.next_if('#')) {
                return;
            }
        }
    }

    /// After a `'`: `'a'`, `'\n'` or the lifetime `'a`.
    fn character_or_lifetime(&mut self) {
        match self.next() {
            Some('\\') => {
                self.next();
                while self.next().is_some_and(|next| next != '\'') {}
            }
            Some(_) if self.next_if('\'') => {}
            Some(first) if first == '_' || first.is_alphabetic() => {
                while self.rest.peek().is_some_and(|next| *next == '_' || next.is_alphanumeric()) {
                    self.next();
                }
            }
            _ => {}
        }
    }

    /// A word, or the literal that a prefix such as `br#` opens.
    fn word(&mut self, first: char, line: usize) {
        let mut word = String::from(first);
        while let Some(next) = self.rest.peek().copied().filter(|next| *next == '_' || next.is_alphanumeric())
        {
            word.push(next);
            self.next();
        }
        let is_raw = matches!(word.as_str(), "r" | "br" | "cr");
        let hashes = if is_raw { std::iter::from_fn(|| self.next_if('#').then_some(())).count() } else { 0 };
        if is_raw && self.next_if('"') {
            self.raw_string(hashes);
            self.push(Kind::Literal, line);
        } else if matches!(word.as_str(), "b" | "c") && self.next_if('"') {
            self.string();
            self.push(Kind::Literal, line);
        } else if hashes == 0 {
            self.push(Kind::Word(word), line);
        }
        // `r#type`: the prefix is dropped, the word itself follows.
    }
}

/// The position after the bracket that closes the one at `open`.
fn after_group(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (position, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            Kind::Mark('(' | '[' | '{') => depth += 1,
            Kind::Mark(')' | ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return position + 1;
        }
    }
    tokens.len()
}

/// The attributes of a file: the position of each `#`, the position after
/// its `]`, and the tokens between the brackets.
pub(crate) fn attributes(tokens: &[Token]) -> Vec<(usize, usize, &[Token])> {
    let mut found = Vec::new();
    for position in (0..tokens.len()).filter(|position| at(tokens, *position, '#')) {
        let open = position + 1 + usize::from(at(tokens, position + 1, '!'));
        if at(tokens, open, '[') {
            let after = after_group(tokens, open);
            found.push((position, after, tokens.get(open + 1..after - 1).unwrap_or_default()));
        }
    }
    found
}

fn at(tokens: &[Token], position: usize, mark: char) -> bool {
    tokens.get(position).is_some_and(|token| token.is(mark))
}

/// The tokens without the items that exist only under `#[cfg(test)]`.
pub(crate) fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut resume = 0;
    for (start, after, inside) in attributes(tokens) {
        let words: Vec<&str> = inside.iter().filter_map(Token::word).collect();
        if start < resume || words != ["cfg", "test"] {
            continue;
        }
        kept.extend_from_slice(tokens.get(resume..start).unwrap_or_default());
        resume = after_item(tokens, after);
    }
    kept.extend_from_slice(tokens.get(resume..).unwrap_or_default());
    kept
}

/// The position after the item at `start`: past its `;` or its closing brace.
fn after_item(tokens: &[Token], start: usize) -> usize {
    let mut position = start;
    while let Some(token) = tokens.get(position) {
        match token.kind {
            Kind::Mark(';') => return position + 1,
            Kind::Mark('{') => return after_group(tokens, position),
            Kind::Mark('(' | '[') => position = after_group(tokens, position),
            _ => position += 1,
        }
    }
    position
}

impl Token {
    pub(crate) fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }
}

/// Every path of a file, single words included.
pub(crate) fn paths(tokens: &[Token]) -> Vec<CodePath> {
    let mut found = Vec::new();
    let mut position = 0;
    // For each open brace, whether it opened an inline module.
    let mut braces: Vec<bool> = Vec::new();
    while let Some(token) = tokens.get(position) {
        let before = position.checked_sub(1).and_then(|before| tokens.get(before));
        match token.kind {
            Kind::Mark('{') => {
                let opens_module =
                    position >= 2 && tokens.get(position - 2).is_some_and(|two| two.is_word("mod"));
                braces.push(opens_module);
            }
            Kind::Mark('}') => drop(braces.pop()),
            Kind::Word(_) if !before.is_some_and(|before| before.kind == Kind::PathSeparator) => {
                let inline_depth = braces.iter().filter(|opens_module| **opens_module).count();
                let first_found = found.len();
                let after = path_tree(tokens, position, &[], &mut found);
                for path in found.iter_mut().skip(first_found) {
                    path.inline_depth = inline_depth;
                }
                // A group's braces are behind us; generic arguments are still ahead.
                position = after.max(position + 1);
                continue;
            }
            _ => {}
        }
        position += 1;
    }
    found
}

/// Reads one path, with its groups, and gives the position after it.
fn path_tree(tokens: &[Token], start: usize, prefix: &[String], found: &mut Vec<CodePath>) -> usize {
    let mut segments = prefix.to_vec();
    let mut position = start;
    let line = tokens.get(start).map_or(0, |token| token.line);
    loop {
        match tokens.get(position).map(|token| &token.kind) {
            Some(Kind::Word(word)) => segments.push(word.clone()),
            Some(Kind::Mark('*')) if !segments.is_empty() => segments.push("*".to_owned()),
            Some(Kind::Mark('{')) => return path_group(tokens, position, &segments, found),
            _ => break,
        }
        position += 1;
        if tokens.get(position).is_none_or(|token| token.kind != Kind::PathSeparator) {
            break;
        }
        position += 1;
    }
    found.push(CodePath { segments, line, inline_depth: 0, is_macro: at(tokens, position, '!') });
    position
}

/// Reads `{a, b::c as d}` behind a path.
fn path_group(tokens: &[Token], open: usize, prefix: &[String], found: &mut Vec<CodePath>) -> usize {
    let close = after_group(tokens, open);
    let mut position = open + 1;
    while position + 1 < close {
        let after = path_tree(tokens, position, prefix, found);
        // Skips `as name` and the comma.
        position = (after..close).find(|next| at(tokens, *next, ',')).map_or(close, |comma| comma + 1);
    }
    close
}
