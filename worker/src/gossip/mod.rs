//! What nodes know first-hand, told to all who need it.
//!
//! * [`record`]: the records; [`view`]: all of them as one value, [`view::PeerView`].

pub mod record;
pub mod view;

pub use record::{EndpointRecord, EndpointState, NodeFact};
pub use view::PeerView;
