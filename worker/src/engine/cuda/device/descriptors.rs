//! Products as cuBLASLt wants them described.

use super::{Error, failed};
use crate::engine::cuda::launch::Product;
use cudarc::cublaslt::result as lt;
use cudarc::cublaslt::sys::{self, cublasLtMatmulDescAttributes_t as Attribute, cublasLtMatrixLayoutAttribute_t as Of};

/// `CUBLAS_OP_N` and `CUBLAS_OP_T` of cublas_api.h: a matrix as it is, and transposed.
const PLAIN: i32 = 0;
const TURNED: i32 = 1;

/// What an algorithm is chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) rows: usize,
    pub(super) inner: usize,
    pub(super) columns: usize,
    pub(super) transposed: bool,
    pub(super) bias: bool,
    pub(super) addend: bool,
    pub(super) wide: bool,
    pub(super) parts: usize,
    pub(super) below: bool,
}

impl Key {
    pub(super) fn of(product: &Product) -> Self {
        let Product { rows, inner, columns, transposed, wide, bias, addend, parts, below, .. } = *product;
        let below = below && parts > 1;
        Self { rows, inner, columns, transposed, bias: bias.is_some(), addend: addend.is_some(), wide, parts, below }
    }

    pub(super) fn name(&self) -> String {
        let Self { rows, inner, columns, transposed, bias, addend, wide, parts, below } = self;
        let flags: String = [transposed, bias, addend, wide].map(|flag| if *flag { '1' } else { '0' }).iter().collect();
        let parts = match (parts, below) {
            (1, _) => String::new(),
            (parts, false) => format!("-{parts}"),
            (parts, true) => format!("-{parts}below"),
        };
        format!("{rows}x{inner}x{columns}-{flags}{parts}")
    }
}

/// Descriptors of one shape.
pub(super) struct Planned {
    pub(super) operation: sys::cublasLtMatmulDesc_t,
    pub(super) weight: sys::cublasLtMatrixLayout_t,
    pub(super) x: sys::cublasLtMatrixLayout_t,
    pub(super) out: sys::cublasLtMatrixLayout_t,
    pub(super) algorithm: Option<sys::cublasLtMatmulAlgo_t>,
}

pub(super) fn wrong(error: lt::CublasError) -> Error {
    failed("cuBLASLt", &error)
}

pub(super) fn describe(key: &Key, bias: u64) -> Result<Planned, Error> {
    let narrow = sys::cudaDataType::CUDA_R_16BF;
    let single = sys::cudaDataType::CUDA_R_32F;
    let kind = if key.wide { single } else { narrow };
    let compute = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
    let operation = lt::create_matmul_desc(compute, single).map_err(wrong)?;
    let turn = if key.transposed { TURNED } else { PLAIN };
    set(operation, Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &turn)?;
    set(operation, Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &PLAIN)?;
    if key.bias {
        let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS as u32;
        set(operation, Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
        set(operation, Attribute::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &(kind as i32))?;
        set(operation, Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
    }
    let (rows, inner, columns) = (key.rows as u64, key.inner as u64, key.columns as u64);
    let (high, wide) = if key.transposed { (inner, columns) } else { (columns, inner) };
    // Of a matrix whose parts lie one below the other, or side by side.
    let layout = |kind, high: u64, wide: u64, below: bool| {
        let parts = key.parts as u64;
        let (apart, next) = if below { (high, high * wide) } else { (parts * high, high) };
        let layout = lt::create_matrix_layout(kind, high, wide, apart as i64).map_err(wrong)?;
        if parts > 1 {
            batch(layout, Of::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &(parts as i32))?;
            batch(layout, Of::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &(next as i64))?;
        }
        Ok(layout)
    };
    Ok(Planned {
        operation,
        weight: layout(narrow, high, wide, true)?,
        x: layout(narrow, inner, rows, key.below)?,
        out: layout(kind, columns, rows, key.below)?,
        algorithm: None,
    })
}

/// Sets an attribute of a matrix.
fn batch<T>(layout: sys::cublasLtMatrixLayout_t, attribute: Of, value: &T) -> Result<(), Error> {
    // SAFETY: the layout is valid, and the value has the type that the attribute is documented with.
    #[allow(unsafe_code)]
    unsafe {
        lt::set_matrix_layout_attribute(layout, attribute, std::ptr::from_ref(value).cast(), std::mem::size_of::<T>())
    }
    .map_err(wrong)
}

/// Sets an attribute of an operation.
pub(super) fn set<T>(operation: sys::cublasLtMatmulDesc_t, attribute: Attribute, value: &T) -> Result<(), Error> {
    // SAFETY: the operation is valid, and the value has the type that the attribute is documented with.
    #[allow(unsafe_code)]
    unsafe {
        lt::set_matmul_desc_attribute(operation, attribute, std::ptr::from_ref(value).cast(), std::mem::size_of::<T>())
    }
    .map_err(wrong)
}
