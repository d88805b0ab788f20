//! What the tests share.

pub(crate) mod curl;
pub(crate) mod process;
pub(crate) mod site;
