//! The checks that every queue passes, ours or a user's.
