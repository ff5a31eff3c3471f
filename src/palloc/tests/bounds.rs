//! What opening costs: memory by a sixteenth of the file and time in proportion to it, whatever bytes it has. And a bounded run over
//! hostile media.
