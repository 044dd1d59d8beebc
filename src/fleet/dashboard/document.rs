//! The HTML document around every page.

use maud::{DOCTYPE, Markup, html};

/// A page for anybody.
pub(super) fn bare(title: &str, content: Markup) -> Markup {
    document(title, html! {}, html! { div.narrow { (content) } })
}

/// A document with what stands `around` in its header.
pub(super) fn document(title: &str, around: Markup, content: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · edgetune fleet" }
                link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/assets/style.css";
                script src="/assets/live.js" defer {}
            }
            body {
                a.skip href="#content" { "Skip to the content" }
                header {
                    a.brand href="/" {
                        svg width="20" height="20" viewBox="0 0 16 16" aria-hidden="true" {
                            path d="M2 13 L6 7 L9 10 L14 3" {}
                            circle cx="14" cy="3" r="1.6" {}
                        }
                        "edgetune fleet"
                    }
                    (around)
                }
                main #content tabindex="-1" { (content) }
                footer { "All times are UTC." }
            }
        }
    }
}
