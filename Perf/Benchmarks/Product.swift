import CKernels
import Glibc
import Reporting
import Tensors

/// A matmul of the paper's step without its epilogue, as every library can do it: C[m,n] = A·B. Operands and result
/// have the matmul's precision, except that our gradients of weights are float32.
///
/// `forward` is X·Wᵀ with W [n,k]; `dX` is dY·W with W [k,n]; `dW` is dYᵀ·X with dY [k,m] and X [k,n].
package struct Product {
    package let name: String
    package let precision: dmae_precision
    let call: KernelCall

    private var arguments: dmae_gemm_arguments {
        guard case .gemm(let arguments) = call.arguments else { fail("\(name) is not a matmul") }
        return arguments
    }

    /// One of each name and shape, of the calls that the step makes in float32 and bf16.
    package static func all(_ rows: [StepCalls.Row]) -> [Product] {
        var products: [Product] = []
        var seen: Set<String> = []
        for row in rows {
            guard case .gemm(let arguments) = row.call.arguments, arguments.precision != DMAE_PRECISION_INT8 else {
                continue
            }
            let product = Product(
                name: "\(row.layer) \(arguments.form.rawValue)", precision: arguments.precision, call: row.call)
            if seen.insert(product.json).inserted { products.append(product) }
        }
        return products
    }

    /// The name, the form and the sizes, as compare.py reads them.
    package var json: String {
        let (m, n, k) = (arguments.m, arguments.n, arguments.k)
        return #"{"name":"\#(name)","precision":"\#(precision.name)","form":"\#(arguments.form.rawValue)","#
            + #""m":\#(m),"n":\#(n),"k":\#(k)}"#
    }

    package static func json(_ products: [Product]) -> String {
        "[" + products.map(\.json).joined(separator: ",") + "]"
    }

    /// The step's call reduced to the matmul.
    package func prepare() -> () -> Void {
        var plain = arguments
        let kept = precision == DMAE_PRECISION_BF16 ? DMAE_TYPE_BF16 : DMAE_TYPE_F32
        if plain.c == nil { (plain.c, plain.ldc) = (plain.activation, plain.ldactivation) }
        (plain.a_type, plain.b_type, plain.c_type) = (kept, kept, plain.form == .dW ? DMAE_TYPE_F32 : kept)
        (plain.b_packed, plain.bias, plain.residual, plain.activation, plain.before_gelu) = (nil, nil, nil, nil, nil)
        plain.row_factor = nil
        (plain.accumulate, plain.stream_c) = (false, plain.form == .dW)
        return plain.prepare()
    }

    /// Takes turns with other programs: answers each line of standard input with a JSON object, until input ends.
    ///
    ///     hello                   the instruction set, the threads and the list of matmuls
    ///     prepare INDEX           fills the operands and runs once
    ///     run SECONDS             repeats for that long, at least three times: seconds of each, and the peak before
    ///                             and after
    package static func serve(_ products: [Product], _ machine: Machine) {
        var precision = DMAE_PRECISION_F32, run: (() -> Void)?
        while let line = readLine() {
            let words = line.split(separator: " ")
            switch (words.first, words.count) {
            case ("hello", 1):
                let isa = InstructionSet.selected.name
                print(
                    #"{"instruction_set":"\#(isa)","processor":"\#(Machine.processor)","threads":\#(machine.threads),"#
                        + #""products":\#(json(products))}"#)
            case ("prepare", 2):
                guard let index = Int(words[1]), products.indices.contains(index) else {
                    fail("no product \(words[1])")
                }
                precision = products[index].precision
                releaseMemory()
                run = products[index].prepare()
                run!()
                print("{}")
            case ("run", 2):
                guard let seconds = Double(words[1]), let run else { fail("'\(line)' without a number or a product") }
                let before = machine.peakNow(precision)
                var times: [Double] = []
                let end = monotonicSeconds() + seconds
                while times.count < 3 || monotonicSeconds() < end { times.append(Machine.time(run)) }
                let peak = max(before, machine.peakNow(precision))
                print(#"{"seconds":\#(times),"peak":\#(peak)}"#)
            default: fail("'\(line)' is not a request")
            }
            fflush(stdout)
        }
    }
}
