//! The rules of the architecture, checked in the sources: which room may import which, which folder owns which
//! dependency, that source files have no import cycles, how long a file may be and how it begins, and the words of all
//! texts.

mod cycles;
mod graph;
mod rooms;
mod sizes;
mod sources;
mod words;
