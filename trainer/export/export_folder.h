#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace espalier {

// ConfigError when an export of the run called `run_name` may not be written to `path`: it is a
// file, or a folder with anything in it that is not an earlier export of that run.
void require_export_folder(const std::string& path, const std::string& run_name);

// `write` fills a temporary folder beside `path`, which then takes its place in one step: readers
// see the old export or the new one, and a failure leaves what was there. StorageError when `bytes`
// are more than the disk has free.
void replace_folder(const std::string& path, int64_t bytes,
                    const std::function<void(const std::string& temporary)>& write);

}  // namespace espalier
