#pragma once

namespace espalier {

// Sets up the C library's heap for training on the CPU; once, early in a process. A step allocates
// and frees the same few hundred tensors again and again. By default large ones are mapped and
// unmapped each time, and every one of their 4 KiB pages faults and is cleared again. Here freed
// memory is kept, and lies in huge pages: a bf16 step of the quickstart's tokenizer takes about
// 0.85 of the time (step_bench with and without --plain-heap). A process does not shrink
// afterwards.
//
// `local_processes` share this machine's memory.
void keep_heap_in_huge_pages(int local_processes);

}  // namespace espalier
