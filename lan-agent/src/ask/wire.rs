//! How asks and answers look in bytes.
