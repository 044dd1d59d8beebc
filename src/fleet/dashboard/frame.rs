//! What is around every page of somebody who is signed in, and the pieces that pages are made of.

use super::document::document;
use super::visitor::Visitor;
use super::words::link;
use crate::fleet::db::Role;
use axum::response::Html;
use maud::{Markup, Render, html};

/// The parts of the dashboard, as the navigation lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Overview,
    Devices,
    Audit,
    Access,
}

const PARTS: [(Part, &str, &str); 4] = [
    (Part::Overview, "/", "Overview"),
    (Part::Devices, "/devices", "Devices"),
    (Part::Audit, "/audit", "Audit log"),
    (Part::Access, "/access", "Access"),
];

/// A page for somebody who is signed in.
pub(super) fn page(visitor: &Visitor, part: Part, title: &str, content: Markup) -> Html<String> {
    let is_operator = visitor.role == Role::Operator;
    let name = visitor.who.strip_prefix("access ").unwrap_or(&visitor.who);
    let parts = PARTS.into_iter().filter(|(part, ..)| *part != Part::Access || is_operator);
    let around = html! {
        nav aria-label="Parts of the dashboard" {
            ul {
                @for (other, address, name) in parts {
                    li { a href=(address) aria-current=[(other == part).then_some("true")] { (name) } }
                }
            }
        }
        form.who method="post" action="/sign-out" {
            (visitor.token.field())
            span { (name) @if !is_operator { " (" (visitor.role.word()) ")" } }
            button.quiet type="submit" { "Sign out" }
        }
    };
    Html(document(title, around, content).into_string())
}

/// A table with its caption, which scrolls by itself where it is too wide; on a phone each row is a card, and each cell tells what
/// it is. `heads` begin with `#` over numbers; the first cell of a row is what the row is about. Roles are said, for a table that is
/// laid out as cards would be none to some who do not see it.
pub(super) fn table<const N: usize>(
    caption: &str,
    heads: [&str; N],
    rows: impl IntoIterator<Item = [Markup; N]>,
) -> Markup {
    let name = |head: &str| head.trim_start_matches('#').to_owned();
    let class = |head: &str| head.starts_with('#').then_some("number");
    html! {
        div.scroll role="region" aria-label=(caption) tabindex="0" {
            table role="table" {
                caption { (caption) }
                thead role="rowgroup" { tr role="row" {
                    @for head in heads { th scope="col" role="columnheader" class=[class(head)] { (name(head)) } }
                } }
                tbody role="rowgroup" { @for row in rows { tr role="row" {
                    @for (index, (head, cell)) in heads.iter().zip(row).enumerate() {
                        @if index == 0 { th scope="row" role="rowheader" class=[class(head)] { (cell) } }
                        @else { td role="cell" data-label=(name(head)) class=[class(head)] { (cell) } }
                    }
                } } }
            }
        }
    }
}

/// A cell of one value.
pub(super) fn cell(value: impl Render) -> Markup {
    html! { (value) }
}

/// What is said where there is nothing to list, and what to do next.
pub(super) fn empty(said: &str, next: Markup) -> Markup {
    html! { div.empty { p { strong { (said) } } (next) } }
}

/// A number that a page begins with.
pub(super) fn figure(name: &str, number: impl std::fmt::Display, note: &str) -> Markup {
    html! { div.tile { dt { (name) } dd { strong { (number) } @if !note.is_empty() { " " span.quiet { (note) } } } } }
}

/// Links to where a list begins and goes on.
pub(super) fn pages(path: &str, query: &[(&str, &str)], name: &str, at: &str, next: Option<String>) -> Markup {
    let with = |value: &str| link(path, &[query, &[(name, value)]].concat());
    html! {
        @if !at.is_empty() || next.is_some() {
            nav.pages aria-label="Pages of this list" {
                @if !at.is_empty() { a href=(with("")) { "From the beginning" } }
                @if let Some(next) = &next { a href=(with(next)) rel="next" { "More" } }
            }
        }
    }
}

/// A button that does something which cannot be undone: it is asked for once more, without a script.
pub(super) fn careful(visitor: &Visitor, action: &str, name: &str, said: Markup, fields: Markup) -> Markup {
    html! {
        details.careful {
            summary { (name) "…" }
            form method="post" action=(action) {
                (said) (visitor.token.field()) (fields)
                button.danger type="submit" { (name) }
            }
        }
    }
}

/// A button that does something.
pub(super) fn button(visitor: &Visitor, action: &str, name: &str) -> Markup {
    html! { form method="post" action=(action) { (visitor.token.field()) button type="submit" { (name) } } }
}
