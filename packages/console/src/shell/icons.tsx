import { useAppServices } from '../sign-in/app-services.js';

interface IconProps {
  /** In pixels. Default 18. */
  readonly size?: number;
}

/** An icon from the path of its lines, in a square of 24. */
function icon(path: string) {
  return function Icon({ size = 18 }: IconProps) {
    return (
      <svg
        width={size}
        height={size}
        viewBox="0 0 24 24"
        fill="none"
        stroke="currentColor"
        strokeWidth="1.8"
        strokeLinecap="round"
        strokeLinejoin="round"
        aria-hidden="true"
        focusable="false"
      >
        <path d={path} />
      </svg>
    );
  };
}

export const FlagIcon = icon('M6 21V4h11l-2.2 4.2L17 12.5H6');
export const ApprovalIcon = icon('M12 3l7 3v5.5c0 4.5-3 7.7-7 9.5-4-1.8-7-5-7-9.5V6zM9 12l2.2 2.2L15.2 10');
export const ActivityIcon = icon('M3 12h4l3-7 4 14 3-7h4');
export const SearchIcon = icon('M4.5 11a6.5 6.5 0 1 0 13 0a6.5 6.5 0 1 0 -13 0zM16 16l4.5 4.5');
export const PauseIcon = icon('M9 6v12M15 6v12');
export const PlayIcon = icon('M8 5.5l10 6.5-10 6.5z');
export const PlusIcon = icon('M12 5v14M5 12h14');
export const SignOutIcon = icon('M14 4h4a2 2 0 0 1 2 2v12a2 2 0 0 1-2 2h-4M10 8l-4 4 4 4M6 12h10');
export const SwitchUserIcon = icon('M5 8h13l-3.5-3.5M19 16H6l3.5 3.5');
export const BackIcon = icon('M15 5l-7 7 7 7');
export const LockIcon = icon(
  'M7 11h10a2 2 0 0 1 2 2v5a2 2 0 0 1 -2 2h-10a2 2 0 0 1 -2 -2v-5a2 2 0 0 1 2 -2zM8 11V8a4 4 0 0 1 8 0v3',
);
export const ClockIcon = icon('M3.5 12a8.5 8.5 0 1 0 17 0a8.5 8.5 0 1 0 -17 0zM12 7.5V12l3 2');
export const TrashIcon = icon('M4.5 7h15M9.5 7V4.5h5V7M6.5 7l.8 12.5h9.4L17.5 7');
export const CheckIcon = icon('M5 12.5l4.5 4.5L19 7.5');
export const CloseIcon = icon('M6 6l12 12M18 6L6 18');
export const SortIcon = icon('M8 10l4-4 4 4M8 14l4 4 4-4');
export const KeyboardIcon = icon(
  'M4.5 6h15a2 2 0 0 1 2 2v8a2 2 0 0 1 -2 2h-15a2 2 0 0 1 -2 -2v-8a2 2 0 0 1 2 -2zM6.5 10h.01M10 10h.01M14 10h.01M17.5 10h.01M8 14h8',
);
export const BellIcon = icon('M6 17V11a6 6 0 0 1 12 0v6l1.5 2h-15zM10 21h4');
export const FilterIcon = icon('M4 6h16M7 12h10M10 18h4');
export const ColumnsIcon = icon('M4 5h16v14H4zM10 5v14M15 5v14');
export const SelectorIcon = icon('M8 10l4 4 4-4');

/** The logo. */
export function Mark({ size = 30 }: IconProps) {
  const { basePath } = useAppServices();
  return <img src={`${basePath}/icon.svg`} width={size} height={size} alt="" />;
}
