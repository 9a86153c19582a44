//! The test suite.

mod bench_statistics;
