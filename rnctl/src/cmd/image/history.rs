//! `history`.

use clap::Args;
use proto::model::Timestamp;
use serde_json::Value;

use crate::{
    api::Client,
    exit::Failure,
    output::{
        ellipsis,
        listing::{ListFlags, Listing, Row},
        short_id, time, units,
    },
    view::Object,
};

/// Flags of `history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Cut nothing
    #[arg(long)]
    no_trunc: bool,
    /// Print sizes and times as people read them
    #[arg(short = 'H', long, num_args = 0..=1, default_value_t = true, default_missing_value = "true", require_equals = true,
          action = clap::ArgAction::Set, hide_default_value = true, hide_possible_values = true, value_name = "BOOL")]
    human: bool,
    #[command(flatten)]
    list: ListFlags,
    /// The image, by name or id
    image: String,
}

const LISTING: Listing = Listing {
    table: "{{.ID}}\\t{{.CreatedSince}}\\t{{.CreatedBy}}\\t{{.Size}}\\t{{.Comment}}",
    quiet: "{{.ID}}",
    configured: |_| None,
    headings: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
};

/// The same with times in full.
const LISTING_EXACT: Listing =
    Listing { table: "{{.ID}}\\t{{.CreatedAt}}\\t{{.CreatedBy}}\\t{{.Size}}\\t{{.Comment}}", ..LISTING };

/// Docker cuts instructions and comments here.
const LENGTH: usize = 45;

fn row(step: &Value, no_trunc: bool, human: bool, now: Timestamp) -> Row {
    let text = |key: &str| step[key].as_str().unwrap_or_default();
    let whole = |text: &str| if no_trunc { text.to_owned() } else { ellipsis(text, LENGTH) };
    let created = Timestamp(step["Created"].as_u64().unwrap_or_default().saturating_mul(1000));
    let size = step["Size"].as_u64().unwrap_or_default();
    let id = text("Id");
    Object::default()
        .with("ID", if no_trunc { id } else { short_id(id) })
        .with("CreatedSince", if created.0 == 0 { "N/A".to_owned() } else { time::ago(created, now) })
        .with("CreatedAt", time::rfc3339(created))
        // Tabs would be columns.
        .with("CreatedBy", whole(&text("CreatedBy").replace('\t', " ")))
        .with("Size", if human { units::decimal(size) } else { size.to_string() })
        .with("Comment", text("Comment"))
        .build()
}

/// Runs `history`.
pub async fn history(rn: &Client, args: HistoryArgs) -> Result<(), Failure> {
    let steps: Vec<Value> = rn.get(&["images", &args.image, "history"]).json().await?;
    let now = Timestamp::now();
    let rows: Vec<Row> = steps.iter().map(|step| row(step, args.no_trunc, args.human, now)).collect();
    if args.human { LISTING } else { LISTING_EXACT }.print(&rows, &args.list)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_as_docker_prints_them() {
        let step = json!({
            "Id": "sha256:0123456789abcdef", "Created": 1, "CreatedBy": format!("RUN\t{}", "x".repeat(60)), "Size": 4_000, "Comment": "c",
        });
        let missing = json!({"Id": "<missing>", "Created": 0, "CreatedBy": "", "Size": 0, "Comment": ""});
        let rows =
            [row(&step, false, true, Timestamp(61_000)), row(&missing, false, true, Timestamp(61_000))];
        let text = LISTING.render(&rows, &Default::default()).unwrap_or_default();
        let cut = format!("RUN {}…", "x".repeat(40));
        assert_eq!(
            text,
            format!(
                "IMAGE          CREATED              CREATED BY                                      SIZE      COMMENT\n\
                 0123456789ab   About a minute ago   {cut}   4kB       c\n<missing>      N/A                                                                  0B\n"
            )
        );
    }
}
