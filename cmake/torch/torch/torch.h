#pragma once

// What Espalier uses of LibTorch, in the place of LibTorch's own torch/torch.h, which this folder
// comes before on the include path: that one brings in jit, data, every optimizer and every layer,
// whose templates the compiler goes through again in each file, precompiled or not. A file that
// needs more includes it by its own name, e.g. <torch/optim/adamw.h>.

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/generated/variable_factories.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/cuda.h>
#include <torch/nn/init.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>
#include <torch/utils.h>
