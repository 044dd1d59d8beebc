//! How far a channel's newest release is on its way to the devices, and what operators do with it.

use super::failure::Failure;
use super::frame::{button, careful};
use super::known::channel_of;
use super::visitor::{Acting, Visitor};
use super::words::{count, mark, moment, path};
use crate::fleet::Fleet;
use crate::fleet::db::{Channel, ReleaseState, Role, RolloutState, Version, Word};
use crate::fleet::rollouts::{Act, Steered, stages, steer};
use axum::extract::{Path, State};
use axum::response::Redirect;
use maud::{Markup, html};
use std::sync::Arc;

/// Where a rollout is, in a sentence or two, and the buttons that steer it. `offered` counts the devices that are offered the newest
/// release, `reports` those of them that have said something.
pub(super) fn section(
    visitor: &Visitor,
    channel: &Channel,
    (offered, reports): (u64, u64),
    releases: &[Version],
    now_ms: i64,
) -> Markup {
    html! {
        p {
            "Rollout " (mark(channel.rollout.word())) " "
            @if channel.pinned { (mark("pinned")) " " }
            (whereabouts(channel, (offered, reports), now_ms))
        }
        @if visitor.role == Role::Operator { div.row { (acts(visitor, channel, releases)) } }
    }
}

fn whereabouts(channel: &Channel, (offered, reports): (u64, u64), now_ms: i64) -> Markup {
    let stages = stages(channel);
    let percent = stages.percent(channel.stage);
    let devices = count(offered.try_into().unwrap_or(i64::MAX), "device", "devices");
    let missing = channel.stage_reports.saturating_sub(reports.try_into().unwrap_or(i64::MAX)).max(0);
    match channel.rollout {
        RolloutState::Done => html! { "All devices are offered version " (channel.version) "." },
        RolloutState::Held => html! {
            "Version " (channel.version) " waits, for the channel is pinned: devices are offered version " (channel.previous) "."
        },
        RolloutState::Rolling | RolloutState::Paused => html! {
            "Stage " (channel.stage + 1) " of " (stages.count()) ", since " (moment(channel.stage_began_ms, now_ms)) ": "
            (percent) " % of the devices, " (devices) ", are offered version " (channel.version)
            @if percent < 100 { ", the others version " (channel.previous) }
            "."
            @if missing > 0 { " The next step waits for " (count(missing, "more report", "more reports")) ", or for all of them." }
            " A verdict waits for two thirds of them, and for the stage's time."
        },
    }
}

/// Whether a release may be gone back to.
fn can_come_back(release: &Version, channel: &Channel) -> bool {
    release.version < channel.version && release.state != ReleaseState::Halted
}

/// What can be done now.
fn acts(visitor: &Visitor, channel: &Channel, releases: &[Version]) -> Markup {
    let to = |act: &str| path(&["channels", &channel.name, "rollout", act]);
    let is_last = channel.stage + 1 >= stages(channel).count();
    let is_on_its_way = matches!(channel.rollout, RolloutState::Rolling | RolloutState::Paused);
    html! {
        @if channel.rollout == RolloutState::Rolling { (button(visitor, &to("pause"), "Pause")) }
        @if channel.rollout == RolloutState::Paused { (button(visitor, &to("resume"), "Resume")) }
        @if is_on_its_way {
            (button(visitor, &to("advance"), if is_last { "Finish now" } else { "Next stage now" }))
        }
        @if channel.pinned { (button(visitor, &to("unpin"), "Unpin")) } @else { (button(visitor, &to("pin"), "Pin")) }
        @if channel.version > 1 {
            (careful(visitor, &to("rollback"), "Roll back", html! {
                p {
                    "All devices are offered the adapter of the version that you choose, under the number "
                    (channel.version + 1) "."
                }
            }, html! {
                label for="back-to" { "Version" }
                select id="back-to" name="version" {
                    @for release in releases.iter().filter(|release| can_come_back(release, channel)) {
                        option value=(release.version) { (release.version) " (" (release.state.word()) ")" }
                    }
                }
                input type="hidden" name="now" value=(channel.version);
            }))
        }
    }
}

/// Does what a button says.
pub(super) async fn act(
    State(fleet): State<Arc<Fleet>>,
    Path((name, act)): Path<(String, String)>,
    Acting { visitor, fields }: Acting,
) -> Result<Redirect, Failure> {
    let channel = channel_of(&fleet, &name).await?;
    let act = match act.as_str() {
        "pause" => Act::Pause,
        "resume" => Act::Resume,
        "advance" => Act::Advance,
        "pin" => Act::Pin,
        "unpin" => Act::Unpin,
        "rollback" => {
            // What was to be left may have been left already.
            if fields.get("now").parse() != Ok(channel.version) {
                return Err(Failure::Conflict(format!("Version {} is the newest now.", channel.version)));
            }
            let version = fields.get("version").parse().map_err(|_| Failure::form("The form names no version."))?;
            Act::Rollback(Some(version))
        }
        _ => return Err(Failure::NotFound("this")),
    };
    match steer(&fleet, &channel, act, &visitor.who).await? {
        Steered::Done => Ok(Redirect::to(&path(&["channels", &channel.name]))),
        Steered::Changed => {
            Err(Failure::Conflict("The rollout is not where it was. Look at the channel again.".into()))
        }
        Steered::NoVersion => Err(Failure::NotFound("this version")),
    }
}
