"""The graph that a spec is: units are nodes, blocks are dense edges. No edge lists, no padding."""
