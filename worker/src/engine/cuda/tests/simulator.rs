//! The kernels of `kernels/*.cu` on the processor: compiled by g++ with the threads of a block as fibers, in a process of its
//! own that holds the arena in the types of a GPU. What it can't show is speed, and what the libraries do.

use super::kernels::Subject;
use crate::engine::cuda::launch::{Address, Arguments, KERNELS, Launch, Product, Step, Steps, lower};
use crate::engine::cuda::packed;
use crate::engine::cuda::parameters::{Parameter, Parameters};
use crate::engine::cuda::plan::{Buffer, Program};
use crate::engine::cuda::tape::Element;
use half::bf16;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::TempDir;

/// A process that runs kernels.
pub(super) struct Simulator {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    offsets: Vec<u64>,
    steps: Vec<Vec<Step>>,
    _folder: TempDir,
}

impl Simulator {
    /// Compiles and starts it; `None`, with the reason printed, where there is no g++.
    pub(super) fn start() -> Option<Self> {
        if Command::new("g++").arg("--version").output().is_err() {
            eprintln!("skipped: there is no g++ to compile the kernels with");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("kernels.cu"), KERNELS).unwrap();
        std::fs::write(folder.path().join("simulator.cpp"), include_str!("simulator.cpp")).unwrap();
        let program = folder.path().join("simulator");
        let mut compiler = Command::new("g++");
        compiler.args(["-O2", "-std=c++17", "-fno-strict-aliasing", "-w", "simulator.cpp", "-o", "simulator"]);
        let compiled = compiler.current_dir(folder.path()).output().unwrap();
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Some(Self { child, stdin, stdout, offsets: Vec::new(), steps: Vec::new(), _folder: folder })
    }

    /// Makes room for a program and its parameters.
    pub(super) fn prepare(&mut self, program: &Program, steps: &Steps, parameters: &Parameters) {
        self.steps = steps.by_instruction.clone();
        self.offsets.clear();
        let mut end = 0;
        for (_, parameter) in parameters.iter() {
            self.offsets.push(end);
            end += (parameter.bytes(2) as u64).next_multiple_of(256);
        }
        for (space, bytes) in [(0, program.arena.bytes as u64), (1, end), (2, steps.scratch as u64)] {
            self.send(&[0u32.to_le_bytes().to_vec(), u32::to_le_bytes(space).to_vec(), bytes.to_le_bytes().to_vec()]);
        }
    }

    pub(super) fn store(&mut self, place: usize, parameter: &Parameter, values: &[f32]) {
        let offset = self.offsets[place];
        let [rows, _] = parameter.matrix();
        let packed = parameter.packed.then(|| packed::pack(values, rows));
        self.put(1, offset, packed.unwrap_or_else(|| encode(values, parameter.element)));
    }

    pub(super) fn write(&mut self, program: &Program, buffer: Buffer, values: &[f32]) {
        let offset = program.arena.offsets[buffer.0].unwrap() as u64;
        self.put(0, offset, encode(values, program.buffers[buffer.0].element));
    }

    pub(super) fn read(&mut self, program: &Program, buffer: Buffer) -> Vec<f32> {
        let (offset, info) = (program.arena.offsets[buffer.0].unwrap() as u64, program.buffers[buffer.0]);
        let bytes = info.count as u64 * width(info.element);
        self.send(&[2u32.to_le_bytes().to_vec(), place(0, offset), bytes.to_le_bytes().to_vec()]);
        let mut data = vec![0; bytes as usize];
        self.stdout.read_exact(&mut data).unwrap();
        match info.element {
            Element::Wide => data.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect(),
            Element::Narrow => data.as_chunks::<2>().0.iter().map(|x| bf16::from_le_bytes(*x).to_f32()).collect(),
        }
    }

    pub(super) fn run(&mut self, step: &Step) {
        match step {
            Step::Launch(launch) => self.launch(launch),
            Step::Product(product) => self.product(product),
            Step::Conv(conv) => self.launch(&conv.own),
            Step::Attention(attention) => self.launch(&attention.own),
        }
    }

    fn launch(&mut self, launch: &Launch) {
        let name = launch.kernel.as_bytes().to_vec();
        let mut parts = vec![3u32.to_le_bytes().to_vec(), (name.len() as u32).to_le_bytes().to_vec(), name];
        parts.extend(launch.grid.into_iter().chain([launch.block]).map(|n| n.to_le_bytes().to_vec()));
        let mut pointers = launch.pointers.clone();
        pointers.resize(12, Address::Null);
        parts.extend(pointers.into_iter().map(|address| self.place(address)));
        let Arguments { numbers, factors, .. } = launch.arguments(|_| 0);
        parts.extend(numbers.map(|n| n.to_le_bytes().to_vec()));
        parts.extend(factors.map(|f| f.to_le_bytes().to_vec()));
        self.send(&parts);
    }

    fn product(&mut self, product: &Product) {
        let Product { x, weight, transposed, bias, addend, out, wide, rows, inner, columns, parts, below } = product;
        let null = Address::Null;
        let addresses = [*x, *weight, bias.unwrap_or(null), addend.unwrap_or(null), *out];
        let mut sent = vec![4u32.to_le_bytes().to_vec()];
        sent.extend(addresses.map(|address| self.place(address)));
        sent.extend([*transposed, *wide].map(|flag| u32::from(flag).to_le_bytes().to_vec()));
        let numbers = [*rows, *inner, *columns, *parts, usize::from(*below)];
        sent.extend(numbers.map(|n| (n as u64).to_le_bytes().to_vec()));
        self.send(&sent);
    }

    fn place(&self, address: Address) -> Vec<u8> {
        match address {
            Address::Arena(offset) => place(0, offset as u64),
            Address::Parameter(id) => place(1, self.offsets[id.0]),
            Address::Scratch(offset) => place(2, offset as u64),
            Address::Null => place(3, 0),
        }
    }

    fn put(&mut self, space: u32, offset: u64, data: Vec<u8>) {
        let bytes = (data.len() as u64).to_le_bytes().to_vec();
        self.send(&[1u32.to_le_bytes().to_vec(), place(space, offset), bytes, data]);
    }

    fn send(&mut self, parts: &[Vec<u8>]) {
        self.stdin.write_all(&parts.concat()).unwrap();
    }
}

impl Subject for Simulator {
    fn prepare(&mut self, program: &Program, parameters: &Parameters, values: &[Vec<f32>]) {
        let packed = parameters.iter().filter(|(_, parameter)| parameter.packed);
        let packed = packed.map(|(id, parameter)| (id, parameter.matrix())).collect();
        Self::prepare(self, program, &lower(program, &packed).unwrap(), parameters);
        parameters.iter().for_each(|(id, parameter)| self.store(id.0, parameter, &values[id.0]));
    }

    fn write(&mut self, program: &Program, buffer: Buffer, values: &[f32]) {
        Self::write(self, program, buffer, values);
    }

    fn read(&mut self, program: &Program, buffer: Buffer) -> Vec<f32> {
        Self::read(self, program, buffer)
    }

    fn run(&mut self, at: usize) {
        let steps = self.steps[at].clone();
        steps.iter().for_each(|step| Self::run(self, step));
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn place(space: u32, offset: u64) -> Vec<u8> {
    [space.to_le_bytes().to_vec(), offset.to_le_bytes().to_vec()].concat()
}

fn width(element: Element) -> u64 {
    match element {
        Element::Wide => 4,
        Element::Narrow => 2,
    }
}

fn encode(values: &[f32], element: Element) -> Vec<u8> {
    match element {
        Element::Wide => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Element::Narrow => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
    }
}
