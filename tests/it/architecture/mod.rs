//! The rules of the architecture, held by reading the sources: which room may import which, which folder owns which
//! dependency, that files import one another in one direction, how long a file may be and how it begins, and the words
//! of all texts.

mod circles;
mod graph;
mod rooms;
mod sizes;
mod sources;
mod words;
