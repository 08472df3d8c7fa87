//! Compare and repair: proves that two tables agree, and mends what does not.
