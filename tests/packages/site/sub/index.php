<?php echo "an index of its own\n";
