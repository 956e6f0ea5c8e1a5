"""Making, reading, cleaning and splitting recordings."""

from skelnb import _reexport

_reexport(__name__, {
    "synthetic": "synthesize STUDIO_CLASSES",
    "formats": "Recording read_ucla read_ucla_folder read_ntu read_missing read_pku read_pku_labels read_arrays read_ctrgcn read_pyskl safe_unpickle ntu_name pku_name Recordings ReadError "
               "NTU_CLASSES NTU_PAIRS PKU_CLASSES PKU_PAIRS",
    "preprocess": "preprocess resize centre rotate_to_body",
    "streams": "to_stream STREAMS",
    "dataset": "SkeletonData load data_dir from_recordings DataError FolderError",
    "prepare": "prepare",
    "custom": "Spec guess preview prepare_custom PrepareForm read_one saved_plan",
    "keypoints": "OPENPOSE18 OPENPOSE25 read_keypoints",
    "layouts": "read_layout save_layout make_layout draw_skeleton propose_mapping map_joints draw_layout guess_bones guess_pairs studio_layout write_custom",
})
