//! Protobuf by hand, so that tests can say what no well-meaning writer would.

use bytes::Bytes;

/// A message: fields one after the other.
#[derive(Debug, Clone, Default)]
pub struct Message(pub Vec<u8>);

impl Message {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn int(mut self, field: u32, value: i64) -> Self {
        varint(&mut self.0, u64::from(field) << 3);
        varint(&mut self.0, value as u64);
        self
    }

    pub fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        varint(&mut self.0, u64::from(field) << 3 | 2);
        varint(&mut self.0, value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    pub fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    pub fn message(self, field: u32, value: &Message) -> Self {
        self.bytes(field, &value.0)
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// `ModelProto` of IR version 8, operator set 17.
pub fn model(graph: &Message) -> Message {
    header(8, 17).message(7, graph)
}

pub fn header(ir_version: i64, opset: i64) -> Message {
    Message::new().int(1, ir_version).message(8, &import("", opset))
}

pub fn import(domain: &str, version: i64) -> Message {
    Message::new().text(1, domain).int(2, version)
}

/// `ValueInfoProto` of `float[n]`.
pub fn value(name: &str) -> Message {
    let shape = Message::new().message(1, &Message::new().text(2, "n"));
    Message::new().text(1, name).message(2, &Message::new().message(1, &Message::new().int(1, 1).message(2, &shape)))
}

/// `NodeProto` without attributes.
pub fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> Message {
    let node = inputs.iter().fold(Message::new(), |node, name| node.text(1, name));
    outputs.iter().fold(node, |node, name| node.text(2, name)).text(4, op)
}

/// `AttributeProto` of that type, whose value lies in `field`.
pub fn attribute(name: &str, kind: i64, field: u32, value: &[u8]) -> Message {
    Message::new().text(1, name).int(20, kind).bytes(field, value)
}

pub fn subgraph(name: &str, graph: &Message) -> Message {
    attribute(name, 5, 6, &graph.0)
}

/// `TensorProto` header.
pub fn tensor(name: &str, dtype: i64, dims: &[i64]) -> Message {
    dims.iter().fold(Message::new(), |tensor, size| tensor.int(1, *size)).int(2, dtype).text(8, name)
}

/// `TensorProto` with external data.
pub fn external(name: &str, dims: &[i64], entries: &[(&str, &str)]) -> Message {
    let entry = |key: &str, value: &str| Message::new().text(1, key).text(2, value);
    let tensor = tensor(name, 1, dims).int(14, 1);
    entries.iter().fold(tensor, |tensor, (key, value)| tensor.message(13, &entry(key, value)))
}

/// `GraphProto` of nodes, from `x` to `y`.
pub fn graph(nodes: &[Message]) -> Message {
    let graph = nodes.iter().fold(Message::new(), |graph, node| graph.message(1, node));
    graph.text(2, "g").message(11, &value("x")).message(12, &value("y"))
}

/// A graph that adds one initializer to its input.
pub fn adds(initializer: &Message) -> Message {
    graph(&[node("Add", &["x", "w"], &["y"])]).message(5, initializer)
}

/// `FunctionProto` in domain `local`.
pub fn function(name: &str, nodes: &[Message]) -> Message {
    let function = Message::new().text(1, name).text(10, "local").text(4, "x").text(5, "y");
    nodes.iter().fold(function, |function, node| function.message(7, node)).message(9, &import("", 17))
}

impl From<Message> for Bytes {
    fn from(message: Message) -> Self {
        message.0.into()
    }
}
