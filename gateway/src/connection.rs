//! Step 2: learns who speaks and what.
