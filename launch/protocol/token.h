#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "launch/protocol/frame.h"

namespace espalier {

// What a peer may do. A worker is a rank of the job; an operator may stop the run; a reader may ask
// how it is doing. Each role has a token of its own, so that what is handed to one person or
// machine opens nothing else.
enum class Role { kWorker, kOperator, kReader };
std::string_view name_of(Role role);
// By the rank in a peer's frames: kOperatorRank, kReaderRank, or that of a worker.
Role role_of(uint32_t rank);

struct RoleTokens {
  SecretKey worker{};
  SecretKey operation{};
  SecretKey reading{};

  const SecretKey& of(Role role) const;
};

// A token's file: 64 hexadecimal digits, readable by its owner only. The second makes it if it is
// not there. Both throw ConfigError if it belongs to someone else, can be read by others or is a
// symbolic link.
SecretKey load_token(const std::string& path);
SecretKey load_or_create_token(const std::string& path);

// DIRECTORY/worker, operator and reader; the directory is made for its owner alone.
std::string token_path(const std::string& directory, Role role);
RoleTokens load_or_create_tokens(const std::string& directory);

std::string to_hex(const SecretKey& key);
std::optional<SecretKey> from_hex(std::string_view hex);
SecretKey random_key();

}  // namespace espalier
