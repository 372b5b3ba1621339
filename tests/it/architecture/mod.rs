//! The rules of the house, held by reading the sources: who may import whom, who owns which dependency,
//! how long a file may be and how it begins.

mod rooms;
mod sources;
