#pragma once

#include <cstdint>

namespace espalier {

// Index of the sample at `position` of an endless stream: epoch position / dataset_size is a
// permutation of 0 .. dataset_size-1 of its own. A pure function: no state to save, and nothing in
// it knows how many ranks share the stream. Positions are counted in samples consumed by all ranks.
int64_t sample_at(uint64_t seed, int64_t position, int64_t dataset_size);

// The same in windows: an epoch visits windows of `window` neighbours in random order, and the
// samples of each in random order; the last, shorter window comes last. 0, or a window of the whole
// set, is sample_at(). So a reader moves through a set on disk in long runs.
int64_t windowed_sample_at(uint64_t seed, int64_t position, int64_t dataset_size, int64_t window);

}  // namespace espalier
