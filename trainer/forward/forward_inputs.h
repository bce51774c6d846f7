#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/forward/forward_check.h"

namespace espalier {

// The named tensors that a model was given, asked for one after the other.
class ForwardInputs {
 public:
  explicit ForwardInputs(const ForwardRequest& request) : request_(request) {}

  bool has(const std::string& name) const { return request_.inputs.contains(name); }
  // As int64. ConfigError naming the tensor, what it is and what was expected when it is missing,
  // not of a whole-number type, or not of `shape` (-1 = any size).
  at::Tensor integers(const std::string& name, const std::vector<int64_t>& shape) const;
  // ConfigError naming the least or greatest of some values of `name` where it is not in
  // least .. below - 1; `expected` says in words what should be there.
  void expect_range(const std::string& name, const at::Tensor& values, int64_t least, int64_t below,
                    const std::string& expected) const;
  // ConfigError when there is a tensor of another name.
  void expect_only(const std::vector<std::string>& names) const;

  [[noreturn]] void refuse(const std::string& name, const std::string& problem) const;

 private:
  const ForwardRequest& request_;
};

}  // namespace espalier
