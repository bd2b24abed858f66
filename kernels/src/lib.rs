//! The tensor operations of a decoder on a Device.
