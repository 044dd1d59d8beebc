//! Where a detector looks: a grid of cells for each of its strides, over the pixels that it takes.

/// The cells of a detector's raw outputs, level after level, each level row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    /// Width and height of the model's input.
    pub input: [u32; 2],
    /// Columns and rows of each level, the finest first.
    pub levels: Vec<[u32; 2]>,
    /// For each edge of a box, the numbers that tell how far it is from the cell: a distribution over 0, 1, 2, … cells.
    pub bins: usize,
}

/// A cell's centre in pixels of the model's input, and the length of its sides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// The centre, across and down.
    pub centre: [f32; 2],
    /// Pixels between two cells.
    pub stride: f32,
}

impl Grid {
    /// Cells of all levels.
    pub fn cells(&self) -> usize {
        self.levels.iter().map(|[columns, rows]| (columns * rows) as usize).sum()
    }

    /// Each cell, in the order of the output.
    pub fn each(&self) -> impl Iterator<Item = Cell> + '_ {
        self.levels.iter().flat_map(|[columns, rows]| {
            let stride = self.stride([*columns, *rows]);
            (0..*rows).flat_map(move |row| {
                (0..*columns).map(move |column| {
                    let centre = [column, row].map(|place| (place as f32 + 0.5) * stride);
                    Cell { centre, stride }
                })
            })
        })
    }

    /// Pixels between two cells of a level: a power of two, for levels are halves of halves. Levels round up what a side has left.
    fn stride(&self, level: [u32; 2]) -> f32 {
        let across = f64::from(self.input[0]) / f64::from(level[0].max(1));
        let down = f64::from(self.input[1]) / f64::from(level[1].max(1));
        // Rounded up, a level has at most one cell more than fit: of both sides the larger quotient is nearer.
        2f64.powf(across.max(down).log2().ceil().max(0.0)) as f32
    }

    /// Factors from a photograph's pixels to those of the input: the whole photograph is stretched.
    pub fn scale(&self, size: [u32; 2]) -> [f32; 2] {
        [0, 1].map(|axis| self.input[axis] as f32 / size[axis].max(1) as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_lie_row_by_row_in_the_middle_of_their_pixels() {
        let grid = Grid { input: [608, 800], levels: vec![[76, 100], [38, 50], [19, 25], [10, 13]], bins: 8 };
        assert_eq!(grid.cells(), 7600 + 1900 + 475 + 130);
        let cells: Vec<Cell> = grid.each().collect();
        assert_eq!(cells.len(), grid.cells());
        assert_eq!(cells[1], Cell { centre: [12.0, 4.0], stride: 8.0 });
        assert_eq!(cells[76], Cell { centre: [4.0, 12.0], stride: 8.0 });
        assert_eq!(cells[7600].stride, 16.0);
        // 608 / 10 and 800 / 13 are below 64: the last row and column reach beyond the edge.
        assert_eq!(cells[cells.len() - 1], Cell { centre: [608.0, 800.0], stride: 64.0 });
        assert_eq!(grid.scale([304, 1600]), [2.0, 0.5]);
    }
}
