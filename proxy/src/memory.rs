//! Sees to it that what was freed goes back to the kernel.
//!
//! The allocator gives back what has been free for a while (`MIMALLOC_PURGE_DELAY`), but looks at what is due only when it takes or
//! frees a whole page of its own. Who has become quiet after a burst does neither, and would keep all that the burst was served
//! with. So it is given the occasion now and then.

/// Bytes: more than what the allocator cuts out of a page that others use as well (512 KiB). Nothing of it is touched.
const PIECE: usize = 1024 * 1024;

/// Gives back what is due, of all threads.
pub fn give_back() {
    // Or it would be seen that nobody uses it, and left out.
    drop(std::hint::black_box(Vec::<u8>::with_capacity(PIECE)));
}
