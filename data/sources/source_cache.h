#pragma once

#include <string>
#include <vector>

#include "data/sources/source_builders.h"
#include "data/sources/source_index.h"

namespace espalier {

// Opens the indices of `paths`, in their order; those that are not there yet are made first and
// kept in `folder` ("" = $XDG_CACHE_HOME/espalier or ~/.cache/espalier). Processes of one machine
// that want the same ones share the work: each takes a lock, begins at another source, and waits
// only for what others are making. Sources that are small are looked through anew each time and
// leave nothing. Throws DataError for what cannot be read or is no form of data that is known.
//
// A source is known by its path, size and time; a folder by those of all its files.
std::vector<SourceIndex> open_sources(const std::vector<std::string>& paths,
                                      const BuildOptions& options, const std::string& folder);

// What is kept of a source, and as what: for tools that make an index by other means.
std::string kept_index_path(const std::string& source, const BuildOptions& options,
                            const std::string& folder);
nlohmann::json source_identity(const std::string& source, const BuildOptions& options);

}  // namespace espalier
