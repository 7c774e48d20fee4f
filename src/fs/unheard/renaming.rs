//! Names that are given here, of which the server has not heard.
